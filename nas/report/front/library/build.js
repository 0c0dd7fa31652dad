// Writes charts.js: the parts of Observable Plot and D3 that the report page uses, in one file, with the licences.
// Run `npm install && npm run build` here after a change of the versions in package.json.
import { build } from "esbuild";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";

const made = await build({
  entryPoints: ["entry.js"], bundle: true, minify: true, format: "iife", globalName: "Charts",
  legalComments: "none", charset: "ascii", write: false, metafile: true, outfile: "charts.js",
});
const parts = Object.values(made.metafile.outputs)[0].inputs;
const folders = new Set(Object.keys(parts)
  .filter(name => parts[name].bytesInOutput > 0)
  .map(name => name.match(/^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//)?.[1])
  .filter(Boolean));
const owners = new Map(); // licence text -> the packages under it, with their copyright lines
for (const folder of folders) {
  const { name, version } = JSON.parse(readFileSync(`${folder}/package.json`));
  const file = readdirSync(folder).find(name => /^licen[sc]e/i.test(name));
  const text = readFileSync(`${folder}/${file}`, "utf-8").replaceAll("\r", "").trim();
  const copyright = text.match(/^.*Copyright.*\d{4}.*$/m)?.[0].trim() ?? "";
  const rest = text.replace(copyright, "").replace(/\s+/g, " ").trim();
  owners.set(rest, [...(owners.get(rest) ?? []), `${name} ${version}: ${copyright}`]);
}
const notices = [...owners].map(([text, names]) => `${names.join("\n")}\n\n${text.replaceAll("*/", "* /")}`);
writeFileSync("charts.js", `/*!\n${notices.join("\n\n----\n\n")}\n*/\n${made.outputFiles[0].text}`);
