import { List, attr, show, stamp, text } from "./dom.js";
import { causes, clock, count, degradation, degradations, legible, said, serverStates, span } from "./words.js";

// So many of one kind are shown each for itself; more are put together.
const apart = 3;

// The degradation that says the same as a state, and more about it.
const same = { unreachable: "poll_stale", shunned: "shunned", full: "all_full" };

// Warnings is the list of what somebody should look at. Notes are below the
// warnings, and do not count as such: what an operator did, and full servers.
export class Warnings {
  #cluster;
  #section = document.getElementById("warnings");
  #head = document.getElementById("warnings-head");
  #voice = document.getElementById("warnings-said");
  #list = new List(document.getElementById("warning-list"), {
    key: (block) => block.key,
    make: (block) => (block.all ? newGroup() : stamp("warning-item")),
    update: (item, block) => (block.all ? this.#showGroup(item, block) : this.#showOne(item, block)),
  });
  #told = new Map();

  constructor(cluster) {
    this.#cluster = cluster;
  }

  update() {
    const found = findings(this.#cluster);
    const blocks = [];
    for (const [kind, all] of Map.groupBy(found, (f) => f.kind)) {
      if (all.length <= apart) {
        blocks.push(...all);
      } else {
        blocks.push({ key: kind, kind, level: all[0].level, tag: all[0].tag, all });
      }
    }
    this.#list.show(blocks);
    show(this.#section, blocks.length > 0);

    const warnings = found.filter((f) => f.level === "warning");
    text(this.#head, warnings.length ? count(warnings.length, "warning", "warnings") : "Notes");
    attr(this.#section, "data-level", warnings.length ? "warning" : "note");
    document.title = warnings.length ? `(${warnings.length}) plexlb` : "plexlb";
    this.#tell(warnings);
  }

  tick() {
    const now = this.#cluster.now();
    for (const item of this.#list.values()) {
      for (const one of item.list?.values() ?? [item]) showAge(one, now);
    }
  }

  // tell says what is new to those who do not see it: the list itself would be
  // read out whole.
  #tell(warnings) {
    const fresh = warnings.filter((w) => !this.#told.has(w.key));
    const over = this.#told.size > 0 && warnings.length === 0;
    this.#told = new Map(warnings.map((w) => [w.key, w]));
    if (fresh.length) {
      const some = fresh.slice(0, apart).map((w) => `${w.who} ${w.text}`);
      if (fresh.length > apart) some.push(`and ${count(fresh.length - apart, "other warning", "other warnings")}`);
      text(this.#voice, some.join("; ") + ".");
    } else if (over) {
      text(this.#voice, "No more warnings.");
    }
  }

  #showOne(item, finding) {
    attr(item.root, "data-warning", finding.kind);
    attr(item.root, "data-about", finding.about);
    attr(item.root, "data-level", finding.level);
    text(item.parts.tag, finding.tag);
    text(item.parts.who, finding.who);
    text(item.parts.text, finding.text);
    text(item.parts.detail, finding.detail ? `${finding.detail}.` : "");
    item.since = finding.since;
    item.word = finding.word ?? "since";
    showAge(item, this.#cluster.now());
  }

  #showGroup(item, block) {
    attr(item.root, "data-warning", block.kind);
    attr(item.root, "data-level", block.level);
    text(item.parts.tag, block.tag);
    text(item.parts.text, block.all[0].several(block.all.length));
    item.list ??= new List(item.parts.list, {
      key: (f) => f.key,
      make: () => stamp("warning-item"),
      update: (one, f) => this.#showOne(one, f),
    });
    item.list.show(block.all);
  }
}

function newGroup() {
  return stamp("warning-group");
}

function showAge(item, now) {
  const { since, word } = item;
  const known = Number.isFinite(since);
  text(item.parts.since, known ? `${word} ${clock(since, now)} (${span(now - since)})` : "");
}

// findings are all there is to say, what matters most first.
function findings(cluster) {
  const list = [];
  for (const s of cluster.servers.values()) {
    const degraded = s.degraded ?? [];
    const state = Object.hasOwn(serverStates, s.state) ? serverStates[s.state] : null;
    if (state && !degraded.some((d) => d.reason === same[s.state])) {
      list.push({
        kind: s.state,
        about: s.name,
        tag: s.state,
        level: state.level,
        who: s.name,
        text: state.one + (s.draining && s.state === "draining" ? leaving(s, cluster.now()) : ""),
        ...began(s),
        detail: s.poll?.failure ? `Last reading: ${s.poll.failure}` : "",
        several: (n) => `${count(n, "server", "servers")} ${state.many}`,
      });
    }
    for (const d of degraded) {
      const words = degradation(d.reason);
      list.push({
        kind: d.reason,
        about: s.name,
        tag: words.tag,
        level: "warning",
        who: s.name,
        text: words.one,
        since: Date.parse(d.since),
        detail: sentence(legible(d.detail)),
        several: (n) => `${count(n, "server", "servers")} ${words.many}`,
      });
    }
  }
  for (const m of cluster.lost()) {
    list.push({
      kind: "lost",
      about: m.from,
      tag: "lost",
      level: "warning",
      who: m.label,
      text: `could not be carried away from ${m.from}`,
      word: "at",
      since: m.time,
      detail: sentence(said(causes, m.cause)),
      number: m.number,
      several: (n) => `${count(n, "playback was", "playbacks were")} lost in the last ten minutes`,
    });
  }
  for (const f of list) f.key = `${f.kind} ${f.number ?? f.about}`;
  const ranks = Object.keys({ ...serverStates, lost: 0, ...degradations });
  const rank = (f) => (ranks.includes(f.kind) ? ranks.indexOf(f.kind) : ranks.length);
  const place = (f) => (f.level === "note" ? 100 : 0) + rank(f);
  return list.sort((a, b) => place(a) - place(b));
}

// began is since when a server is not up, or, if it was so before the page was
// opened, when it was last heard of.
function began(server) {
  if (Number.isFinite(server.since)) return { since: server.since };
  return server.state === "down" || server.state === "unreachable" ? { since: server.read, word: "last read at" } : {};
}

function leaving(server, now) {
  const wait = server.leaves - now;
  if (!Number.isFinite(wait)) return "";
  return wait > 0 ? `, and moves its playbacks in ${span(wait + 999)}` : ", and moves its playbacks";
}

function sentence(s) {
  return s ? s[0].toUpperCase() + s.slice(1) : "";
}
