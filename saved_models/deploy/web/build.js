// Copies ONNX Runtime from node_modules to vendor/, from where the page loads it.

import { copyFileSync, mkdirSync } from "node:fs";

const FILES = ["ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"];

mkdirSync("vendor", { recursive: true });
for (const file of FILES) {
  copyFileSync(`node_modules/onnxruntime-web/dist/${file}`, `vendor/${file}`);
}
