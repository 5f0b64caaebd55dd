// The status page: hears the balancer's events, keeps what they say, and shows
// it. Changes are gathered and shown once a frame.

import { Cluster } from "./cluster.js";
import { Control } from "./control.js";
import { Explanation } from "./explain.js";
import { listen } from "./feed.js";
import { Moves } from "./moves.js";
import { Playbacks } from "./playbacks.js";
import { Servers } from "./servers.js";
import { Summary } from "./summary.js";
import { Warnings } from "./warnings.js";
import { show } from "./dom.js";

const cluster = new Cluster();
const control = new Control(cluster);
const summary = new Summary(cluster);
const warnings = new Warnings(cluster);
const moves = new Moves(cluster);
const explanation = new Explanation(cluster, { move: (id) => control.move(id) });
const playbacks = new Playbacks(cluster, {
  move: (id) => control.move(id),
  chosen: (name) => servers.choose(name),
});
const servers = new Servers(cluster, {
  choose: (name) => {
    playbacks.choose(playbacks.server === name ? "" : name);
    if (playbacks.server) playbacks.reveal();
  },
  drain: (name) => control.drain(name),
  undrain: (name) => control.undrain(name),
});

let frame = 0;
let later = 0;

// render shows all that is new. A page that nobody sees gets no frames: there,
// only the warnings in its title are kept up to date.
function render() {
  frame = 0;
  if (!cluster.known) return;
  const news = cluster.news();
  playbacks.before();
  show(document.getElementById("data"), true);
  summary.update();
  warnings.update();
  servers.update(news);
  moves.update(news);
  playbacks.update(news);
  explanation.update(news);
}

function request() {
  if (!document.hidden) {
    frame ||= requestAnimationFrame(render);
  } else {
    later ||= setTimeout(() => {
      later = 0;
      if (cluster.known) warnings.update();
    }, 1000);
  }
}

document.addEventListener("visibilitychange", () => {
  cancelAnimationFrame(frame);
  frame = 0;
  request();
});

setInterval(() => {
  if (!cluster.known) return;
  if (document.hidden) {
    request();
    return;
  }
  summary.tick();
  servers.tick();
  moves.tick();
  playbacks.tick();
  warnings.update(); // lost playbacks are news for a while only
  warnings.tick();
}, 1000);

listen({
  state: (state) => {
    cluster.replace(state);
    request();
  },
  change: (change) => {
    cluster.change(change);
    request();
  },
  beat: (beat) => cluster.heard(beat),
  connection: (state, since) => summary.connected(state, since),
});
