import { attr, partsOf, show, text } from "./dom.js";
import { clock, serverStates, span, tenth, whole } from "./words.js";

const byId = (id) => document.getElementById(id);

// Summary is the top of the page: how it is connected, and what all servers do
// together.
export class Summary {
  #cluster;
  #connection = byId("connection");
  #parts = partsOf(byId("connection"));
  #lost = 0;

  constructor(cluster) {
    this.#cluster = cluster;
  }

  // connected says whether what the page shows is so now.
  connected(state, since) {
    attr(this.#connection, "data-state", state);
    this.#lost = state === "lost" ? since : 0;
    text(this.#parts.word, state === "lost" ? `reconnecting since ${clock(since)}` : state);
    attr(document.body, "data-stale", state === "lost");
    this.tick();
  }

  tick() {
    const age = this.#lost ? Date.now() - this.#lost : 0;
    text(this.#parts.since, age >= 1000 ? `(${span(age)})` : "");
  }

  update() {
    const { servers, sessions, mode, primary } = this.#cluster;
    const sum = { up: 0, bad: 0, load: 0, room: 0, gpu: 0, cpu: 0, copy: 0, none: 0, limits: true };
    for (const s of servers.values()) {
      if (s.state === "up" || s.state === "full") sum.up++;
      if (serverStates[s.state]?.level === "warning") sum.bad++;
      // What a dead server was last seen to do it does no more.
      if (s.state === "down") continue;
      sum.load += s.load;
      sum.room += this.#cluster.room(s);
      sum.limits &&= s.max_transcodes > 0;
      for (const kind of ["gpu", "cpu", "copy", "none"]) sum[kind] += s.jobs[kind] ?? 0;
    }

    text(
      byId("mode"),
      mode !== "replicated" ? "separate libraries" : primary ? `replicated, primary ${primary}` : "replicated",
    );
    show(byId("totals"), true);
    text(byId("total-servers"), whole(sum.up));
    text(byId("total-servers-sub"), `of ${whole(servers.size)}`);
    attr(byId("total-servers"), "data-low", sum.bad > 0);
    text(byId("total-playbacks"), whole(sessions.size));
    text(byId("total-playbacks-sub"), `${whole(sum.copy + sum.none)} not transcoded`);
    text(byId("total-transcodes"), whole(sum.gpu + sum.cpu));
    text(byId("total-transcodes-sub"), `${whole(sum.gpu)} GPU, ${whole(sum.cpu)} CPU`);
    text(byId("total-load"), tenth(sum.load));
    // Without limits there is nothing that a share could be of.
    text(
      byId("total-load-sub"),
      sum.limits && sum.room ? `of ${tenth(sum.room)}, ${whole((100 * sum.load) / sum.room)} %` : "",
    );
  }
}
