// The page: frames from the webcam, a file, a drop or the clipboard go to the worker one at a time; its answers become
// boxes and bars.

// Larger pictures are shrunk to so many pixels, which every browser can hold.
const MAX_PIXELS = 16e6;
// A screen reader hears what the webcam sees once in so many milliseconds.
const NEWS_EVERY = 4000;
// The frames per second are a mean over so many frames.
const RATE_OVER = 20;

const [webcam, file, find, stage, canvas, list, rate] =
  ["webcam", "file", "find", "stage", "picture", "faces", "rate"].map((id) => document.getElementById(id));

// From a blob, a worker is under this page's Content-Security-Policy; from a file, it is under what a server says.
const code = `import ${JSON.stringify(new URL("faces.js", import.meta.url))};`;
const worker = new Worker(URL.createObjectURL(new Blob([code], { type: "text/javascript" })), { type: "module" });

let labels = [];
let stream = null; // of the webcam, while it is on
let still = null; // the picture that is shown, if it is not from the webcam

worker.onerror = () => say("The model could not be loaded: this browser lacks what the page needs.");
worker.onmessage = ({ data: { model, error } }) => {
  if (error) return say(`The model could not be loaded: ${error}`);
  labels = model.labels;
  document.getElementById("model").textContent = model.name;
  webcam.disabled = file.disabled = false;
  say("Ready: start the webcam, or choose, drop or paste a picture.");
};

webcam.onclick = () => (stream ? stopWebcam() : startWebcam());
file.onchange = () => {
  if (file.files.length) showPicture(file.files[0]);
  file.value = ""; // so that the same file can be chosen again
};
find.onchange = () => still && showPicture(still);
document.onpaste = ({ clipboardData }) => offered(clipboardData);
document.ondragover = (event) => {
  event.preventDefault();
  stage.classList.add("dropping");
};
document.ondragleave = () => stage.classList.remove("dropping");
document.ondrop = (event) => {
  event.preventDefault(); // else the browser would leave the page for the file
  stage.classList.remove("dropping");
  offered(event.dataTransfer);
};

function offered({ files }) {
  if (files.length && !file.disabled) showPicture(files[0]);
}

async function showPicture(source) {
  stopWebcam();
  say("Looking …");
  await inTurn(async () => {
    const { frame, faces } = await ask(await readPicture(source));
    still = frame;
    show(frame, faces);
    say(summary(faces));
  });
}

/** A frame from a file, turned as its EXIF data say and with its colors as they stand, as Python reads it. */
async function readPicture(source) {
  const frame = await createImageBitmap(source, { colorSpaceConversion: "none" }).catch(() => {
    throw new Error("this browser cannot read it as a picture.");
  });
  const scale = Math.sqrt(MAX_PIXELS / (frame.width * frame.height));
  if (scale >= 1) return frame;
  const [resizeWidth, resizeHeight] = [frame.width, frame.height].map((side) => Math.max(1, Math.round(side * scale)));
  return createImageBitmap(frame, { resizeWidth, resizeHeight, resizeQuality: "high" });
}

async function startWebcam() {
  const video = document.createElement("video");
  video.muted = video.playsInline = true;
  webcam.disabled = true; // a second start would leave the first one's camera on
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480, facingMode: "user" } });
    video.srcObject = stream;
    await video.play();
  } catch (error) {
    stopWebcam();
    return say(`The webcam could not be started: ${error.message}`);
  } finally {
    webcam.disabled = false;
  }
  const own = stream;
  webcam.textContent = "Stop webcam";
  still = null;
  const times = [];
  let told = -Infinity;
  while (stream === own && own.active) {
    await inTurn(async () => {
      const { frame, faces } = await ask(await createImageBitmap(video));
      if (stream !== own) return;
      show(frame, faces, true);
      const now = performance.now();
      times.push(now);
      if (times.length > RATE_OVER) times.shift();
      const perSecond = (1000 * (times.length - 1)) / (now - times[0]);
      if (times.length > 1) rate.textContent = `${perSecond.toFixed(perSecond < 10 ? 1 : 0)} frames per second`;
      if (now - told > NEWS_EVERY) {
        told = now;
        say(summary(faces));
      }
    });
    await new Promise(requestAnimationFrame); // which rests while nobody sees the page
  }
  if (stream === own) stopWebcam();
}

function stopWebcam() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  webcam.textContent = "Start webcam";
  rate.textContent = "";
}

let last = Promise.resolve();

/** Does a piece of work when those before it are done; what fails is said. */
function inTurn(work) {
  last = last.then(work).catch((error) => say(`That did not work: ${error.message}`));
  return last;
}

/** The faces in a frame, which goes to the worker and comes back. */
function ask(frame) {
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => (data.error ? reject(new Error(data.error)) : resolve(data));
    worker.postMessage({ frame, find: find.checked }, [frame]);
  });
}

function show(frame, faces, mirrored = false) {
  canvas.hidden = false;
  draw(frame, faces, mirrored);
  canvas.setAttribute("aria-label", `A picture: ${summary(faces)}`);
  document.getElementById("none").hidden = faces.length > 0;
  while (list.children.length > faces.length) list.lastChild.remove();
  while (list.children.length < faces.length) list.append(newCard());
  faces.forEach((face, i) => fill(list.children[i], face, i + 1));
}

function draw(frame, faces, mirrored) {
  canvas.width = frame.width;
  canvas.height = frame.height;
  const context = canvas.getContext("2d");
  if (mirrored) context.setTransform(-1, 0, 0, 1, frame.width, 0);
  context.drawImage(frame, 0, 0);
  context.resetTransform();
  const unit = frame.width / canvas.clientWidth; // of the screen, in pixels of the frame
  context.lineWidth = 3 * unit;
  context.font = `600 ${14 * unit}px system-ui, sans-serif`;
  context.textBaseline = "top";
  faces.forEach(({ box: [left, top, right, bottom], scores }, i) => {
    if (mirrored) [left, right] = [frame.width - right, frame.width - left];
    context.strokeStyle = context.fillStyle = "#0072b2";
    context.strokeRect(left, top, right - left, bottom - top);
    const text = `${i + 1} ${labels[best(scores)]}`;
    const width = context.measureText(text).width + 10 * unit, height = 20 * unit;
    const x = Math.max(0, Math.min(left, frame.width - width)), y = Math.max(0, top - height);
    context.fillRect(x, y, width, height);
    context.fillStyle = "#fff";
    context.fillText(text, x + 5 * unit, y + 3 * unit);
  });
}

function newCard() {
  const card = document.getElementById("face").content.cloneNode(true).firstElementChild;
  for (const label of labels) {
    const row = card.querySelector("tbody").insertRow();
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = label;
    row.append(head);
    const bar = row.insertCell();
    bar.className = "bar";
    bar.ariaHidden = "true";
    bar.append(document.createElement("span"));
    row.insertCell();
  }
  return card;
}

function fill(card, face, number) {
  const { scores } = face;
  card.dataset.face = JSON.stringify(face); // whole numbers, for scripts
  card.querySelector("caption").textContent = `Face ${number}: ${labels[best(scores)]}`;
  [...card.querySelectorAll("tr")].forEach((row, i) => {
    row.className = i === best(scores) ? "top" : "";
    row.querySelector("span").style.width = `${100 * scores[i]}%`;
    row.lastChild.textContent = percent(scores[i]);
  });
}

function summary(faces) {
  if (!faces.length) return "No face found.";
  const found = faces.map(({ scores }) => `${labels[best(scores)]} ${percent(Math.max(...scores))}`);
  return `${faces.length} ${faces.length > 1 ? "faces" : "face"}: ${found.join(", ")}.`;
}

const best = (scores) => scores.indexOf(Math.max(...scores));
const percent = (score) => `${Math.round(100 * score)}\u00a0%`;

function say(text) {
  const status = document.getElementById("status");
  if (status.textContent !== text) status.textContent = text;
}
