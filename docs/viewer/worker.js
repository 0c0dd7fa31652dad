// Decodes beside the page, so that it stays alive. Only the last thing asked for is finished.

import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs";
import { Codec } from "./codec.js";
import { parseNic } from "./nic.js";
import { Problem, sentence } from "./problem.js";

const MOST_PIXELS = 2 ** 23; // what a decoder's widest layer needs of a browser's 4 GB grows with them
const MOST_THREADS = 8;
const BREATH = 100; // milliseconds between looks at what is asked for meanwhile

// More than one thread needs headers that plain servers do not send: see README.md.
const THREADS = self.crossOriginIsolated ? Math.min(MOST_THREADS, navigator.hardwareConcurrency) : 1;
ort.env.wasm.numThreads = THREADS;
ort.env.logLevel = "error";

class Stale extends Error {}

let codec = null;
let latents = null; // {nic, found, file}
let cold = true; // until the first picture, functions of the runtime are not compiled well
const wanted = { codec: null, file: null, decoder: null };
let working = false;

/** A task of its own, after the messages that wait. */
const breath = () => new Promise((resolve) => {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => {
    port1.close();
    resolve();
  };
  port2.postMessage(null);
});

function reader(source) {
  if (source.files) {
    return async (name) => {
      const file = source.files[name];
      if (!file) throw new Problem(`The folder has no ${name}: choose the onnx folder that nas export --onnx wrote.`);
      return new Uint8Array(await file.arrayBuffer());
    };
  }
  return async (name) => {
    const answer = await fetch(new URL(name, source.url)).catch(() => ({ ok: false }));
    if (!answer.ok) throw new Problem(`There is no ${name} at ${source.url}: put an exported codec there, or choose another.`);
    return new Uint8Array(await answer.arrayBuffer());
  };
}

async function open({ id, source }) {
  await codec?.close();
  [codec, latents] = [null, null];
  codec = await Codec.open(ort, reader(source));
  postMessage({ kind: "codec", id, description: codec.description, threads: THREADS });
}

async function decode({ id, bytes }) {
  latents = null;
  const nic = parseNic(bytes);
  const layout = codec.layoutOf(nic);
  if (nic.width * nic.height > MOST_PIXELS) {
    throw new Problem(`A picture of ${nic.width}x${nic.height} pixels is more than this page decodes: use nas decompress.`);
  }
  await codec.prepare(layout);
  const began = performance.now();
  let looked = began;
  const found = await codec.decode(nic, async (share) => {
    if (performance.now() - looked < BREATH) return;
    postMessage({ kind: "progress", id, share });
    await breath();
    looked = performance.now();
    if (wanted.codec || wanted.file) throw new Stale();
  });
  latents = { nic, found, file: id };
  const { width, height, grey } = nic;
  const milliseconds = performance.now() - began;
  postMessage({ kind: "latents", id, width, height, grey, bytes: bytes.length, layout, stages: found.stages, milliseconds });
}

async function show({ id, decoder }) {
  if (latents?.file !== id) return;
  await codec.prepare(codec.description.decoders[decoder]);
  const began = performance.now();
  const pixels = await codec.synthesize(decoder, latents.found, latents.nic);
  const milliseconds = performance.now() - began;
  postMessage({ kind: "picture", id, decoder, pixels, milliseconds, cold }, [pixels.buffer]);
  cold = false;
}

// The first that is wanted comes first.
const ACTIONS = [["codec", open], ["file", decode], ["decoder", show]];

async function work() {
  if (working) return;
  working = true;
  for (;;) {
    const [kind, action] = ACTIONS.find(([name]) => wanted[name]) ?? [];
    if (!kind) break;
    const request = wanted[kind];
    wanted[kind] = null;
    try {
      await action(request);
    } catch (error) {
      if (!(error instanceof Stale)) {
        postMessage({ kind: "problem", of: kind, id: request.id, text: sentence(kind, error) });
      }
    }
    await breath();
  }
  working = false;
}

addEventListener("message", ({ data }) => {
  wanted[data.kind] = data;
  work();
});
