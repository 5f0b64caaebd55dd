import { words } from "./cluster.js";
import { attr, el, link, refocus, show, stamp, text } from "./dom.js";
import { clock, count, kinds, kindTexts, reasons, said, sessionStates, sessionTags, span, whole } from "./words.js";

// Rows above and below what is in sight, so that there is something to scroll
// to and to tab to.
const spare = 8;

const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
const alphabetic = (of) => (a, b) => collator.compare(of(a), of(b));
const dearest = ["cpu", "gpu", "copy", "none"];

// The columns, each with the order that one wants first.
const orders = {
  since: { name: "latest", down: true, compare: (a, b) => a.placed - b.placed },
  title: { name: "title", compare: alphabetic((s) => s.label) },
  client: { name: "client", compare: alphabetic((s) => s.who) },
  kind: { name: "kind", compare: (a, b) => dearest.indexOf(a.kind) - dearest.indexOf(b.kind) },
  server: { name: "server", compare: alphabetic((s) => s.server) },
  why: { name: "why there", compare: alphabetic((s) => s.reason) },
  moves: { name: "most moves", down: true, compare: (a, b) => a.moves - b.moves },
};

// Playbacks is the table. It knows all rows and has only those in sight in the
// page: each at its place in a body as high as all would be.
export class Playbacks {
  #cluster;
  #on;
  #control = false;
  #shown = []; // all that pass the filter, in order
  #rows = new Map(); // those in the page, by id
  #height = 0; // of a row
  #server = "";
  #words = [];
  #sort = "since";
  #down = true;
  #mark = null;
  #selected = false; // something in the table is
  #top = NaN; // of the body, as long as it has not been changed
  #body = document.getElementById("playback-rows");
  #table = document.getElementById("playback-table");
  #section = document.getElementById("playbacks");
  #chip = document.getElementById("filter-server");
  #select = document.getElementById("sort");

  // on.move(id) is called for the button of a row, on.chosen(name) when another
  // server's playbacks are to be shown.
  constructor(cluster, on) {
    this.#cluster = cluster;
    this.#on = on;

    const filter = document.getElementById("filter");
    filter.addEventListener("input", () => {
      this.#words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      this.#refill();
    });
    this.#chip.addEventListener("click", () => {
      this.choose("");
      filter.focus();
    });
    for (const [key, { name }] of Object.entries(orders)) {
      this.#select.append(el("option", { value: key }, `by ${name}`));
    }
    this.#select.addEventListener("change", () => this.#order(this.#select.value, orders[this.#select.value].down));
    for (const button of this.#table.querySelectorAll("[data-sort]")) {
      const key = button.dataset.sort;
      button.addEventListener("click", () => this.#order(key, this.#sort === key ? !this.#down : orders[key].down));
    }
    this.#body.addEventListener("keydown", (event) => this.#step(event));

    addEventListener("scroll", () => this.#fill(), { passive: true });
    new ResizeObserver(() => this.#resize()).observe(this.#table);
    addEventListener("resize", () => this.#resize());
    // Remembered, since asking in the middle of changes has the page laid out.
    document.addEventListener("selectionchange", () => {
      const selection = getSelection();
      this.#selected = !selection.isCollapsed && this.#body.contains(selection.anchorNode);
    });
    // What is above the table has grown or shrunk.
    new ResizeObserver(() => this.#fill()).observe(document.getElementById("data"));
    this.#order("since", true);
  }

  // choose shows the playbacks of one server, or of all if it is empty.
  choose(name) {
    this.#server = name;
    show(this.#chip, name !== "");
    this.#chip.replaceChildren("only on ", el("bdi", {}, name), " ✕");
    attr(this.#chip, "aria-label", `Show playbacks on all servers, not only on ${name}`);
    this.#refill();
    this.#on.chosen(name);
  }

  get server() {
    return this.#server;
  }

  reveal() {
    const top = this.#section.getBoundingClientRect().top;
    if (top > innerHeight * 0.6) this.#section.scrollIntoView({ block: "start" });
  }

  // before is called when the page is about to change: who reads in the middle
  // of the table goes on reading there.
  before() {
    const top = this.#body.getBoundingClientRect().top;
    const inside = top < 0 && this.#height > 0 && this.#shown.length > 0;
    attr(document.documentElement, "data-reading", inside);
    const first = Math.floor(-top / this.#height) + 1;
    this.#top = this.#table.hidden ? NaN : top;
    this.#mark = inside ? { top, first, ids: this.#shown.slice(first, first + 50).map((s) => s.id) } : null;
  }

  update(news) {
    const { sessions, control, mode } = this.#cluster;
    if (control !== this.#control) {
      this.#control = control;
      attr(this.#table, "data-control", control);
      for (const row of this.#rows.values()) row.root.remove();
      this.#rows.clear();
      this.#height = 0; // with buttons rows may be higher
    }
    show(document.getElementById("no-moving"), control && mode === "separate");
    if (news.all) {
      this.#shown = this.#sorted([...sessions.values()].filter((s) => this.#passes(s)));
    } else if (news.sessions.size) {
      const rest = this.#shown.filter((s) => !news.sessions.has(s.id));
      const changed = [];
      for (const id of news.sessions) {
        const s = sessions.get(id);
        if (s && this.#passes(s)) changed.push(s);
      }
      this.#shown = this.#merged(rest, this.#sorted(changed));
    }
    this.#settle();
  }

  tick() {
    const now = this.#cluster.now();
    for (const row of this.#rows.values()) showAge(row, now);
  }

  #passes(s) {
    return (!this.#server || s.server === this.#server) && this.#words.every((w) => words(s).includes(w));
  }

  // Ids come last, so that no two are equal and rows do not swap for nothing.
  #compare = (a, b) => {
    const by = orders[this.#sort].compare(a, b) * (this.#down ? -1 : 1);
    return by || b.placed - a.placed || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
  };

  #sorted(list) {
    return list.sort(this.#compare);
  }

  // merged puts a few sorted ones among many. Comparing titles is what takes
  // time, so the place of each is looked up by halves.
  #merged(many, few) {
    const all = [];
    let from = 0;
    for (const s of few) {
      let low = from;
      let high = many.length;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (this.#compare(many[middle], s) < 0) low = middle + 1;
        else high = middle;
      }
      while (from < low) all.push(many[from++]);
      all.push(s);
    }
    while (from < many.length) all.push(many[from++]);
    return all;
  }

  #order(key, down = false) {
    this.#sort = key;
    this.#down = Boolean(down);
    this.#select.value = key;
    for (const button of this.#table.querySelectorAll("[data-sort]")) {
      const sort = this.#down ? "descending" : "ascending";
      attr(button.parentElement, "aria-sort", button.dataset.sort === key ? sort : null);
    }
    this.#refill();
  }

  #refill() {
    this.#mark = null;
    this.#shown = this.#sorted([...this.#cluster.sessions.values()].filter((s) => this.#passes(s)));
    this.#settle();
    // Who has scrolled down and then filters wants to see the first.
    const top = this.#section.getBoundingClientRect().top;
    if (top < 0) scrollBy({ top, behavior: "instant" });
  }

  // settle makes the body as high as its rows, puts what was being read back to
  // where it was, and fills in the rows.
  #settle() {
    const n = this.#shown.length;
    const all = this.#cluster.sessions.size;
    text(document.getElementById("playback-count"), n === all ? whole(all) : `${whole(n)} of ${whole(all)}`);
    const none = document.getElementById("no-playbacks");
    show(none, n === 0 && this.#cluster.known);
    text(none, all === 0 ? "Nothing is playing." : "No playback is like that.");
    show(this.#table, n > 0);
    attr(this.#table, "aria-rowcount", n + 1);
    if (!this.#height && n > 0) this.#measure();
    this.#stretch();

    if (this.#mark) {
      const { top, first, ids } = this.#mark;
      const places = new Map(this.#shown.map((s, i) => [s.id, i]));
      const still = ids.findIndex((id) => places.has(id));
      if (still >= 0) {
        const by =
          (places.get(ids[still]) - first - still) * this.#height + this.#body.getBoundingClientRect().top - top;
        if (by) scrollBy({ top: by, behavior: "instant" });
      }
      this.#top = NaN;
    }
    this.#mark = null;
    // To ask where the body is now would have the page laid out twice. If it has
    // moved, the rows are filled in again before anybody sees it.
    if (Number.isNaN(this.#top)) this.#fill();
    else this.#fill(this.#top);
    this.#top = NaN;
  }

  #stretch() {
    const high = `${this.#shown.length * this.#height}px`;
    if (this.#body.style.height !== high) this.#body.style.height = high;
  }

  #resize() {
    if (this.#shown.length === 0) return;
    const height = this.#height;
    this.#measure();
    if (height !== this.#height) {
      this.#stretch();
      for (const row of this.#rows.values()) row.index = -1;
    }
    this.#fill();
  }

  // measure finds out how high rows are, which the style sheet says.
  #measure() {
    let row = this.#rows.values().next().value?.root;
    const probe = row ? null : this.#body.appendChild(stamp("playback-row").root);
    row ??= probe;
    this.#height = row.getBoundingClientRect().height;
    probe?.remove();
  }

  // fill puts the rows that are in sight, and a few more, into the page.
  #fill(top = this.#body.getBoundingClientRect().top) {
    if (!this.#height) return;
    const n = this.#shown.length;
    const from = Math.max(0, Math.min(n, Math.floor(-top / this.#height)) - spare);
    const to = Math.min(n, Math.max(from + spare, Math.ceil((innerHeight - top) / this.#height) + spare));

    const focused = document.activeElement;
    const held = this.#body.contains(focused) ? focused.closest("tr")?.dataset.session : undefined;
    const wanted = new Map();
    for (let i = from; i < to; i++) wanted.set(this.#shown[i].id, i);
    let next = -1; // where the focus goes if its row is over
    if (held !== undefined && !wanted.has(held)) {
      const at = this.#shown.findIndex((s) => s.id === held);
      if (at >= 0) wanted.set(held, at);
      else next = this.#rows.get(held)?.index ?? -1;
    }

    for (const [id, row] of this.#rows) {
      if (!wanted.has(id)) {
        row.root.remove();
        this.#rows.delete(id);
      }
    }
    const now = this.#cluster.now();
    for (const [id, i] of wanted) {
      let row = this.#rows.get(id);
      if (!row) {
        row = this.#make(id);
        this.#rows.set(id, row);
      }
      this.#show(row, this.#shown[i], i, now);
    }
    this.#line();
    refocus(focused);
    if (next >= 0 && n > 0) {
      this.#rows.get(this.#shown[Math.min(next, n - 1)].id)?.parts.title.focus({ preventScroll: true });
    }
  }

  // line puts the rows in the page in the order in which they are seen, for
  // those who tab and listen. Not while something is selected: it would be lost.
  #line() {
    if (this.#selected) {
      for (const row of this.#rows.values()) if (!row.root.isConnected) this.#body.append(row.root);
      return;
    }
    let next = this.#body.firstElementChild;
    for (const row of [...this.#rows.values()].sort((a, b) => a.index - b.index)) {
      if (row.root === next) next = next.nextElementSibling;
      else this.#body.insertBefore(row.root, next);
    }
  }

  #make(id) {
    const row = { ...stamp("playback-row"), session: null, index: -1 };
    attr(row.root, "data-session", id);
    attr(row.parts.title, "href", link(id));
    if (this.#control) {
      row.move = el("button", { type: "button", "data-do": "move" }, "Move…");
      row.move.addEventListener("click", () => this.#on.move(id));
      row.parts.act.append(row.move);
    }
    return row;
  }

  #show(row, s, index, now) {
    const { root, parts } = row;
    if (row.index !== index) {
      row.index = index;
      root.style.transform = `translateY(${index * this.#height}px)`;
      attr(root, "aria-rowindex", index + 2);
      attr(root, "data-odd", index % 2 === 1);
    }
    if (row.session === s) return;
    const before = row.session;
    row.session = s;
    text(parts.label, s.label);
    text(parts.client, s.who || "unknown client");
    attr(parts.client, "data-unknown", !s.who);
    const tag = Object.hasOwn(sessionTags, s.state) ? sessionTags[s.state] : "";
    show(parts.state, tag !== "");
    text(parts.state, tag);
    attr(parts.state, "title", said(sessionStates, s.state));
    attr(root, "data-state", s.state);
    attr(parts.kind, "data-kind", s.kind);
    attr(parts.kind, "title", said(kindTexts, s.kind));
    text(parts.kind, said(kinds, s.kind));
    text(parts.server, s.server);
    attr(root, "data-on", s.server);
    text(parts.why, said(reasons, s.reason));
    attr(parts.why, "title", said(reasons, s.reason));
    text(parts.moves, s.moves ? count(s.moves, "move", "moves") : "");
    attr(parts.since, "datetime", s.placed_at);
    attr(parts.since, "title", clock(s.placed, now));
    if (row.move) {
      row.move.disabled = !s.movable;
      attr(row.move, "title", s.movable ? null : "It cannot be moved.");
      attr(row.move, "aria-label", `Move ${s.label}`);
    }
    if (before && before.server !== s.server) {
      attr(root, "data-moved", true);
      root.addEventListener("animationend", () => attr(root, "data-moved", false), { once: true });
    }
    showAge(row, now);
  }

  // step goes from title to title by the arrow keys.
  #step(event) {
    const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    const row = this.#rows.get(event.target.closest("tr")?.dataset.session);
    if (!by || !row || event.altKey || event.ctrlKey || event.metaKey) return;
    const s = this.#shown[row.index + by];
    const title = s && this.#rows.get(s.id)?.parts.title;
    if (!title) return;
    event.preventDefault();
    title.focus({ preventScroll: true });
    title.closest("tr").scrollIntoView({ block: "nearest" });
  }
}

function showAge({ parts, session: s }, now) {
  if (s) text(parts.since, Number.isFinite(s.placed) ? span(now - s.placed) : "");
}
