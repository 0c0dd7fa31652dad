// What the report page uses of Observable Plot and D3.
export { dot, line, plot, pointer, ruleX, text, tip } from "@observablehq/plot";
export { brushX, select, symbol, symbolCircle, symbolCross, symbolSquare, symbolWye } from "d3";
