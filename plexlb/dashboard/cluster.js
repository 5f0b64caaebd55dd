import { legible, when } from "./words.js";
import { steps } from "./chart.js";

// Lost playbacks are worth a warning for this long, in milliseconds.
const lately = 10 * 60 * 1000;

const moveLimit = 50;

// Cluster is what the page knows: the last state that was sent, with all changes
// since. It has no DOM in it.
export class Cluster {
  known = false;
  control = false;
  mode = "separate";
  primary = "";
  stepSeconds = 20;
  // The load of one of each; proportions in the bars come from it.
  cost = { gpu: 1, cpu: 2, copy: 0.1, client: 0.05 };
  servers = new Map();
  sessions = new Map();
  moves = []; // latest first
  peak = 1; // the highest load for its weight, of any server in the last hour

  #lead = 0; // of the servers' clock, in milliseconds
  #moveNumber = 0;
  #news = nothing();

  // now is the time on the balancer's clock.
  now() {
    return Date.now() + this.#lead;
  }

  // news is what has changed since it was last asked.
  news() {
    const news = this.#news;
    this.#news = nothing();
    return news;
  }

  replace(state) {
    this.heard(state);
    this.known = true;
    this.control = state.control === true;
    this.mode = state.mode;
    this.primary = state.primary ?? "";
    this.stepSeconds = state.step_seconds || 20;
    Object.assign(this.cost, state.cost);

    const before = this.servers;
    this.servers = new Map();
    for (const s of state.servers ?? []) {
      this.#server(s, before.get(s.name), s.history ?? []);
    }
    this.sessions = new Map();
    for (const s of state.sessions ?? []) {
      this.sessions.set(s.id, prepared(s));
    }
    this.moves = [];
    this.#movesCame(state.moves ?? []);
    this.#measure();
    this.#news.all = true;
  }

  change(change) {
    this.heard(change);
    const news = this.#news;
    for (const s of change.servers ?? []) {
      const before = this.servers.get(s.name);
      this.#server(s, before, before?.history ?? []);
      news.servers.add(s.name);
      news.listed ||= !before;
    }
    for (const name of change.gone_servers ?? []) {
      news.listed = this.servers.delete(name) || news.listed;
    }
    for (const s of change.sessions ?? []) {
      this.sessions.set(s.id, prepared(s));
      news.sessions.add(s.id);
    }
    for (const id of change.gone_sessions ?? []) {
      this.sessions.delete(id);
      news.sessions.add(id);
    }
    if (change.moves?.length) {
      this.#movesCame(change.moves);
      news.moves = true;
    }
    if (change.points) {
      for (const s of this.servers.values()) {
        s.history = [...s.history, change.points[s.name] ?? null].slice(-steps);
      }
      news.points = true;
    }
    const peak = this.peak;
    if (change.points) {
      this.#measure();
    } else {
      for (const s of change.servers ?? []) this.peak = Math.max(this.peak, s.load / s.weight || 0);
    }
    news.points ||= this.peak !== peak;
  }

  // heard takes in what time it is there.
  heard({ now }) {
    const there = when(now);
    if (Number.isFinite(there)) this.#lead = there - Date.now();
  }

  // room is the load that a server's bar and graph are measured against.
  room(server) {
    return server.max_transcodes || server.weight * this.peak;
  }

  // lost are the playbacks that were lost of late, the latest first.
  lost() {
    const now = this.now();
    return this.moves.filter((m) => m.outcome === "lost" && now - m.time < lately);
  }

  #server(s, before, history) {
    s.history = history;
    s.read = when(s.poll?.last_good);
    s.leaves = when(s.move_at);
    s.jobs ??= {};
    // The balancer does not say since when. What was so when the page was opened
    // has been so for nobody knows how long.
    s.since = before?.state === s.state ? before.since : before ? this.now() : NaN;
    this.servers.set(s.name, s);
  }

  #movesCame(moves) {
    for (const m of moves) {
      m.time = when(m.at);
      m.label = legible(m.title, 120) || "a playback";
    }
    // Numbered from the oldest, so that two of one playback at one time differ.
    for (const m of moves.toReversed()) m.number = ++this.#moveNumber;
    this.moves = [...moves, ...this.moves].slice(0, moveLimit);
  }

  // measure finds the peak anew. Between steps it can only rise.
  #measure() {
    this.peak = 1;
    for (const s of this.servers.values()) {
      for (const load of [s.load, ...s.history]) this.peak = Math.max(this.peak, load / s.weight || 0);
    }
  }
}

function nothing() {
  return { all: false, listed: false, servers: new Set(), sessions: new Set(), moves: false, points: false };
}

// prepared gives a playback what it is sorted and shown by.
function prepared(s) {
  s.placed = when(s.placed_at);
  s.label = legible(s.title) || legible(s.item) || "untitled";
  s.who = legible(s.client);
  return s;
}

// words are all that a playback can be found by.
export function words(s) {
  return (s.words ??= `${s.title}\n${s.item}\n${s.client}\n${s.server}\n${s.id}`.toLowerCase());
}
