/** What a person did or has that cannot be decoded, in one plain sentence. */
export class Problem extends Error {}

const AGAIN = "or the browser lacks memory: close other pages, or export the codec again with nas export --onnx.";
const FAILURES = {
  codec: `The codec could not be loaded, because its folder is damaged ${AGAIN}`,
  file: `The file could not be decoded, because parts of the codec's folder do not fit each other ${AGAIN}`,
  decoder: `The decoder could not run, because its model does not fit the codec ${AGAIN}`,
};

/** What to tell of an error: the sentence of a problem, or one for whatever fails at a kind of request. */
export function sentence(kind, error) {
  if (error instanceof Problem) return error.message;
  console.warn(error); // for whoever writes such files
  return FAILURES[kind];
}
