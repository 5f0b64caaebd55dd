import { address } from "./dom.js";

// The balancer says something at least every 15 seconds. A connection that is
// silent for longer than this is dead, whatever the browser thinks.
const patience = 40_000;

const firstPause = 1000;
const longestPause = 15_000;

// listen hears the balancer's events for as long as the page is open, and calls
// on.state, on.change and on.beat with what they say, and on.connection with
// "live", or "lost" and since when. Whatever breaks is begun anew, with a state.
export function listen(on) {
  let source;
  let pause = firstPause;
  let lost = 0;
  let silence;
  let retry;

  function connect() {
    clearTimeout(retry);
    let live = false;
    source = new EventSource(address("events"));
    const hear = (name, take) => {
      source.addEventListener(name, (event) => {
        clearTimeout(silence);
        silence = setTimeout(again, patience);
        try {
          take(JSON.parse(event.data));
        } catch (error) {
          // What is only half understood would stay wrong until the next state.
          console.error(error);
          again();
        }
      });
    };
    hear("state", (state) => {
      on.state(state);
      live = true;
      lost = 0;
      pause = firstPause;
      on.connection("live");
    });
    hear("change", (change) => live && on.change(change));
    hear("beat", (beat) => live && on.beat(beat));
    source.onerror = again;
    silence = setTimeout(again, patience);
  }

  // The browser would begin again by itself, but not after an error status, as
  // of a proxy in front while Caddy is restarted.
  function again() {
    source.close();
    clearTimeout(silence);
    clearTimeout(retry);
    lost ||= Date.now();
    on.connection("lost", lost);
    retry = setTimeout(connect, pause * (0.75 + Math.random() / 2));
    pause = Math.min(pause * 2, longestPause);
  }

  addEventListener("online", () => {
    if (lost) connect();
  });
  // A page that the browser has put away keeps no connection, and is stale when
  // it is shown again.
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (event) => event.persisted && again());
  connect();
}
