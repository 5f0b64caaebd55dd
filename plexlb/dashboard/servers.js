import { draw, steps } from "./chart.js";
import { List, attr, el, show, stamp, text } from "./dom.js";
import { count, degradation, legible, serverStates, span, tenth, whole } from "./words.js";

// More servers than this are shown small, and not all at first.
const few = 24;

// How often they change places when the fullest come first, in milliseconds.
const reorder = 10_000;

const collator = new Intl.Collator("en", { numeric: true });

// Servers are the cards. Only those in sight are brought up to date; the others
// are when they come into sight.
export class Servers {
  #cluster;
  #on;
  #control = false;
  #all = false;
  #order = "";
  #ordered = 0;
  #chosen = "";
  #section = document.getElementById("servers");
  #select = document.getElementById("server-order");
  #more = document.getElementById("servers-all");
  #cards;
  #sight;

  // on.choose(name) is called when a server is clicked, on.drain and on.undrain
  // for the buttons.
  constructor(cluster, on) {
    this.#cluster = cluster;
    this.#on = on;
    const list = document.getElementById("server-list");
    this.#cards = new List(list, {
      key: (server) => server.name,
      make: (server) => this.#make(server),
      update: (card, server) => {
        card.late ||= card.server !== server;
        card.server = server;
      },
    });
    this.#sight = new IntersectionObserver(
      (entries) => {
        for (const { target, isIntersecting } of entries) {
          const card = this.#cards.get(target.dataset.server);
          if (!card || card.root !== target) continue;
          card.inSight = isIntersecting;
          if (isIntersecting) this.#show(card);
        }
      },
      { rootMargin: "200px" },
    );
    this.#select.addEventListener("change", () => {
      this.#order = this.#select.value;
      this.#list();
    });
    this.#more.addEventListener("click", () => {
      this.#all = !this.#all;
      this.#list();
    });
  }

  // choose marks the server whose playbacks are shown; none if it is empty.
  choose(name) {
    this.#chosen = name;
    for (const card of this.#cards.values()) attr(card.parts.name, "aria-pressed", String(card.server.name === name));
  }

  update(news) {
    const { servers, control } = this.#cluster;
    if (control !== this.#control) {
      this.#control = control;
      this.#cards.clear();
    }
    if (!this.#order && servers.size) {
      this.#order = this.#select.value = servers.size > few ? "fullest" : "given";
    }
    if (news.all || news.listed || this.#restless()) this.#list();
    for (const name of news.servers) {
      const card = this.#cards.get(name);
      if (card) {
        card.server = servers.get(name);
        card.late = true;
      }
    }
    for (const card of this.#cards.values()) {
      card.late ||= news.points || news.all;
      card.undrawn ||= news.points || news.all;
      if (card.inSight) this.#show(card);
    }
  }

  tick() {
    const now = this.#cluster.now();
    for (const card of this.#cards.values()) if (card.inSight) showAges(card, now);
  }

  // restless says whether it is time to put the servers in order again. Nobody
  // likes to aim at a card that moves.
  #restless() {
    return (
      this.#order === "fullest" &&
      Date.now() - this.#ordered > reorder &&
      !this.#section.matches(":hover, :focus-within")
    );
  }

  #list() {
    const all = [...this.#cluster.servers.values()];
    if (this.#order === "fullest") {
      const share = new Map(all.map((s) => [s, s.load / this.#cluster.room(s)]));
      all.sort((a, b) => share.get(b) - share.get(a) || collator.compare(a.name, b.name));
      this.#ordered = Date.now();
    }
    this.#cards.show(this.#all ? all : all.slice(0, few));
    attr(this.#section, "data-many", all.length > few);
    show(document.getElementById("no-servers"), all.length === 0);
    show(document.getElementById("server-order-label"), all.length > 1);
    show(this.#more, all.length > few);
    text(this.#more, this.#all ? `Show only ${few} servers` : `Show all ${whole(all.length)} servers`);
    attr(this.#more, "aria-expanded", String(this.#all));
  }

  #make(server) {
    const card = { ...stamp("server-card"), server, late: true, undrawn: true, inSight: !this.#all };
    const { root, parts } = card;
    attr(root, "data-server", server.name);
    text(parts.name, legible(server.name));
    attr(parts.name, "aria-pressed", String(server.name === this.#chosen));
    parts.name.addEventListener("click", () => this.#on.choose(card.server.name));
    if (this.#control) {
      card.drain = el("button", { type: "button", "data-do": "drain" }, "Drain…");
      card.undrain = el("button", { type: "button", "data-do": "undrain" }, "Undrain…");
      card.drain.addEventListener("click", () => this.#on.drain(card.server.name));
      card.undrain.addEventListener("click", () => this.#on.undrain(card.server.name));
      root.append(el("p", { class: "actions" }, card.drain, card.undrain));
    }
    this.#sight.observe(root);
    return card;
  }

  #show(card) {
    if (!card.late) return;
    card.late = false;
    const { root, parts, server: s } = card;
    const room = this.#cluster.room(s);
    const limited = s.max_transcodes > 0;

    attr(root, "data-state", s.state);
    text(parts.state, s.draining && s.state !== "draining" && s.state !== "drained" ? `${s.state}, draining` : s.state);
    show(parts.primary, s.name === this.#cluster.primary);
    const trouble = (s.degraded ?? []).map((d) => degradation(d.reason).one);
    if (s.state === "shunned" && !trouble.length) trouble.push(serverStates.shunned.one);
    show(parts.trouble, trouble.length > 0);
    text(parts.trouble, trouble.join("; "));

    const { gpu = 0, cpu = 0, copy = 0, none = 0 } = s.jobs;
    this.#showBar(card, room);
    text(parts.load, tenth(s.load));
    text(parts.of, `of ${tenth(room)}`);
    attr(parts.meter, "aria-label", `Load of ${s.name}`);
    attr(parts.meter, "aria-valuemax", room);
    attr(parts.meter, "aria-valuenow", Math.min(s.load, room));
    attr(parts.meter, "aria-valuetext", `${tenth(s.load)} of ${tenth(room)}${limited ? "" : ", no limit set"}`);
    text(parts["n-gpu"], gpu);
    text(parts["n-cpu"], cpu);
    text(parts["n-copy"], copy);
    text(parts["n-none"], none);

    text(
      parts.playbacks,
      count(s.playbacks, "playback", "playbacks") +
        (s.others ? ` and ${whole(s.others)} past plexlb` : "") +
        (s.reserved ? `, ${whole(s.reserved)} starting` : ""),
    );
    text(parts.limit, limited ? `${whole(gpu + cpu)} of ${whole(s.max_transcodes)} transcodes` : "no limit set");
    attr(root, "data-limited", limited);
    text(parts.weight, `weight ${tenth(s.weight)}`);
    text(parts.placed, `${whole(s.placements)} placed`);
    text(parts.address, legible(s.address));
    if (card.drain) {
      show(card.drain, !s.draining);
      show(card.undrain, s.draining);
    }
    if (card.undrawn) {
      card.undrawn = false;
      const peak = draw(parts, s.history, room);
      const span = hours(this.#cluster.stepSeconds * steps);
      text(parts.hour, `${span}: at most ${tenth(peak)}`);
      attr(parts.chart, "aria-label", `Load in the ${span}: at most ${tenth(peak)}; the dashed line is ${tenth(room)}`);
    }
    showAges(card, this.#cluster.now());
  }

  // Parts of the bar are what each kind costs, scaled to the load that the
  // balancer has counted.
  #showBar({ root, parts, server: s }, room) {
    const { cost } = this.#cluster;
    const { gpu = 0, cpu = 0, copy = 0 } = s.jobs;
    const shares = {
      gpu: gpu * cost.gpu,
      cpu: cpu * cost.cpu,
      rest: copy * cost.copy + (s.idle_clients ?? 0) * cost.client,
    };
    const sum = shares.gpu + shares.cpu + shares.rest;
    const full = Math.min(1, s.load / room || 0);
    let left = 0;
    for (const [kind, share] of Object.entries(shares)) {
      const width = sum > 0 ? (full * share) / sum : kind === "rest" ? full : 0;
      // Transforms, unlike widths, move nothing else on the page.
      const to = `translateX(${(left * 100).toFixed(1)}%) scaleX(${width.toFixed(3)})`;
      if (parts[kind].style.transform !== to) parts[kind].style.transform = to;
      left += width;
    }
    attr(root, "data-over", s.load > room * 1.001);
  }
}

function showAges({ parts, server: s }, now) {
  const read = Number.isFinite(s.read) ? `read ${span(now - s.read)} ago` : "never read";
  text(parts.read, s.poll?.failure ? `${read}, now ${legible(s.poll.failure)}` : read);
  const wait = s.leaves - now;
  if (s.draining && Number.isFinite(wait)) {
    text(parts.state, wait > 0 ? `${s.state}, moves in ${span(wait + 999)}` : s.state);
  }
}

function hours(seconds) {
  return seconds === 3600 ? "last hour" : `last ${span(seconds * 1000)}`;
}
