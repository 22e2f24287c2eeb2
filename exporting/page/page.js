// Runs model.onnx on an image, a video or the camera, and draws the disparity beside it.

const PERCENTILE = 0.95;  // of the disparity shown brightest: a few near pixels must not darken the rest
const element = (id) => document.getElementById(id);
const facts = await (await fetch("model.json")).json();
const { width, height } = facts;
const small = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
small.imageSmoothingQuality = "high";

let ort, session, backend;
let turn = 0;  // every new input takes the next number; loops of an older one end
let last = null;  // disparity of the last image, width * height floats

function say(text, isError = false) {
  element("status").textContent = text;
  element("status").classList.toggle("error", isError);
}

async function load() {
  const folder = new URL("ort/", import.meta.url).href;
  const model = await (await fetch("model.onnx")).arrayBuffer();
  const adapter = navigator.gpu ? await navigator.gpu.requestAdapter().catch(() => null) : null;
  const ways = adapter ? [["webgpu", "ort.webgpu.bundle.min.mjs"]] : [];
  for (const [name, file] of [...ways, ["wasm", "ort.wasm.bundle.min.mjs"]]) {
    try {
      ort = await import(folder + file);
      ort.env.wasm.wasmPaths = folder;
      ort.env.wasm.numThreads = crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;
      session = await ort.InferenceSession.create(model.slice(0), { executionProviders: [name] });
      await run(new Float32Array(3 * width * height));  // whatever fails on this device, fails here
      backend = { webgpu: "WebGPU", wasm: "WebAssembly" }[name];
      return;
    } catch (error) {
      if (name === "wasm") throw error;
    }
  }
}

async function run(values) {
  const image = new ort.Tensor("float32", values, [1, 3, height, width]);
  const output = (await session.run({ image }))[facts.output];
  const found = await output.getData();
  return facts.output === "depth" ? found.map((depth) => 1 / depth) : found;
}

async function predict(source, sourceWidth, sourceHeight) {
  const shown = element("image"), scale = Math.min(1, 1280 / sourceWidth);
  shown.width = Math.round(sourceWidth * scale);
  shown.height = Math.round(sourceHeight * scale);
  shown.getContext("2d").drawImage(source, 0, 0, shown.width, shown.height);
  small.drawImage(source, 0, 0, width, height);
  const pixels = small.getImageData(0, 0, width, height).data;
  const values = new Float32Array(3 * width * height), plane = width * height;
  for (let pixel = 0; pixel < plane; pixel++)
    for (let channel = 0; channel < 3; channel++)
      values[channel * plane + pixel] = pixels[4 * pixel + channel] / 255;
  last = Float32Array.from(await run(values));
  draw(last, shown.width, shown.height);
  element("save").disabled = false;
}

function draw(disparity, shownWidth, shownHeight) {
  const sorted = disparity.filter((_, index) => index % 7 === 0).sort();
  const low = sorted[0], high = sorted[Math.floor(PERCENTILE * (sorted.length - 1))];
  const picture = new ImageData(width, height);
  for (let pixel = 0; pixel < disparity.length; pixel++) {
    const unit = high > low ? (disparity[pixel] - low) / (high - low) : 0;
    const colour = facts.colours[Math.max(0, Math.min(255, Math.floor(256 * unit)))];
    picture.data.set([...colour, 255], 4 * pixel);
  }
  const canvas = element("disparity");
  canvas.width = shownWidth;
  canvas.height = shownHeight;
  small.putImageData(picture, 0, 0);
  canvas.getContext("2d").drawImage(small.canvas, 0, 0, shownWidth, shownHeight);
}

async function showImage(file) {
  const mine = ++turn;
  stopped();
  const image = await createImageBitmap(file);
  const began = performance.now();
  await predict(image, image.width, image.height);
  if (mine === turn) say(`${file.name}: ${Math.round(performance.now() - began)} ms`);
}

async function showVideo(name, video) {
  const mine = ++turn;
  element("stop").hidden = false;
  await video.play();
  let frames = 0, since = performance.now();
  while (mine === turn && !video.ended) {
    await predict(video, video.videoWidth, video.videoHeight);
    frames++;
    const seconds = (performance.now() - since) / 1000;
    if (seconds >= 1 || frames === 1) say(`${name}: ${(frames / seconds).toFixed(1)} frames a second`);
    if (seconds >= 2) [frames, since] = [0, performance.now()];
    await new Promise(requestAnimationFrame);
  }
  video.pause();
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  if (video.src) URL.revokeObjectURL(video.src);
  if (mine === turn) stopped();
}

function stopped() {
  element("stop").hidden = true;
}

function newVideo(source) {
  const video = Object.assign(document.createElement("video"), { muted: true, playsInline: true });
  if (source instanceof MediaStream) video.srcObject = source;
  else video.src = URL.createObjectURL(source);
  return video;
}

async function open(file) {
  if (!file) return;
  try {
    if (file.type.startsWith("video/")) await showVideo(file.name, newVideo(file));
    else await showImage(file);
  } catch (error) {
    say(`${file.name} cannot be shown: ${error.message}`, true);
  }
}

async function openCamera() {
  try {
    const wanted = { video: { facingMode: "environment", width: { ideal: 1280 } } };
    await showVideo("camera", newVideo(await navigator.mediaDevices.getUserMedia(wanted)));
  } catch (error) {
    say(`The camera cannot be used: ${error.message}`, true);
  }
}

function save() {
  const text = `{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, ${height}, ${width}), }`;
  const header = text.padEnd(117) + "\n";  // with the 10 bytes before it, a multiple of 64
  const start = new Uint8Array([0x93, 78, 85, 77, 80, 89, 1, 0, header.length & 255, header.length >> 8]);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([start, header, last]));
  link.download = "disparity.npy";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const drop = element("drop");
for (const kind of ["dragover", "dragleave", "drop"])
  window.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", kind === "dragover");
    if (kind === "drop" && session) open(event.dataTransfer.files[0]);
  });
element("file").addEventListener("change", (event) => open(event.target.files[0]));
element("camera").addEventListener("click", openCamera);
element("stop").addEventListener("click", () => { turn++; stopped(); });
element("save").addEventListener("click", save);

try {
  await load();
  element("model").textContent = `${facts.model}, ${width}×${height}, ${facts.precision}, on ${backend}`;
  element("file").disabled = false;
  element("camera").disabled = !navigator.mediaDevices;
  say("Ready.");
} catch (error) {
  say(`The model cannot be run: ${error.message}`, true);
}
