import { List, attr, link, show, stamp, text } from "./dom.js";
import { causes, clock, said, span, whole } from "./words.js";

// So many are shown at once where the list has no column of its own.
const few = 5;

// Moves is the list of playbacks that changed servers, the latest first.
export class Moves {
  #cluster;
  #all = false;
  #shown = false;
  #box = document.getElementById("move-list");
  #more = document.getElementById("moves-all");
  #list = new List(this.#box, {
    key: (move) => String(move.number),
    make: (move) => this.#make(move),
    update: () => {},
  });

  constructor(cluster) {
    this.#cluster = cluster;
    this.#more.addEventListener("click", () => {
      this.#all = !this.#all;
      this.update({ moves: true });
    });
  }

  update(news) {
    if (!news.all && !news.moves) return;
    const { moves } = this.#cluster;
    this.#list.show(moves);
    show(this.#box, moves.length > 0);
    show(document.getElementById("no-moves"), moves.length === 0);
    show(this.#more, moves.length > few);
    text(this.#more, this.#all ? "Show only the latest" : `Show all ${whole(moves.length)}`);
    attr(this.#more, "aria-expanded", String(this.#all));
    attr(this.#box, "data-all", this.#all);
    this.tick();
    this.#shown = true;
  }

  tick() {
    const now = this.#cluster.now();
    for (const { parts, move } of this.#list.values()) text(parts.age, `${span(now - move.time)} ago`);
  }

  #make(move) {
    const item = { ...stamp("move-item"), move };
    const { root, parts } = item;
    const lost = move.outcome === "lost";
    attr(root, "data-move", move.session);
    attr(root, "data-outcome", move.outcome);
    // Those that were there before the page need no attention.
    attr(root, "data-fresh", this.#shown);
    attr(parts.at, "datetime", move.at);
    text(parts.at, clock(move.time, this.#cluster.now()));
    attr(parts.title, "href", link(move.session));
    text(parts.label, move.label);
    text(parts.from, move.from || "nowhere");
    text(parts.to, lost ? "lost" : move.to);
    text(parts.cause, said(causes, move.cause));
    show(parts.outcome, lost);
    return item;
  }
}
