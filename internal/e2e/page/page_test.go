package page

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/plexlb/caddy-plexlb/internal/e2e/browser"
)

// What a page would like to do if it were let.
const (
	hostileTitle  = `<img src=x onerror="window.owned=1"><script>window.owned=2</script>`
	hostileDevice = `"><svg onload=window.owned=3>` + "\u202egnp.exe"
)

// quick has the servers read often.
const quick = "poll_interval 1s\n"

// tab is the status page in a browser.
type tab struct {
	*browser.Tab
	t *testing.T
}

// open shows the status page in a browser of its own, in a window of a size.
func (h *house) open(path string, width, height int64, dark bool) *tab {
	h.t.Helper()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") != "" {
			h.t.Fatal("there is no chromium: install it, in Debian by apt-get install chromium")
		}
		h.t.Skip("there is no chromium")
	}
	// The test's own context ends before the picture of a failure is taken.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(h.t.Context()), 2*time.Minute)
	h.t.Cleanup(cancel)
	ctx, cancel = browser.New(ctx, chromium)
	h.t.Cleanup(cancel)
	p := &tab{browser.Watch(ctx, h.t, "page", func(url string) bool { return strings.HasPrefix(url, h.URL+"/lb") }), h.t}
	chromedp.ListenTarget(ctx, func(e any) {
		switch e := e.(type) {
		case *runtime.EventConsoleAPICalled:
			p.Complain(fmt.Sprintf("console: %v", e.Args))
		case *log.EventEntryAdded: // violations of the policy are here
			p.Complain("log: " + e.Entry.Text)
		}
	})
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	p.Run(
		log.Enable(),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}),
		chromedp.EmulateViewport(width, height),
		chromedp.Navigate(h.URL+path),
	)
	p.until("it is live", `document.getElementById("connection").dataset.state === "live"`)
	return p
}

// ask returns what an expression is in the page.
func ask[T any](p *tab, expression string) (v T) {
	p.t.Helper()
	p.Run(chromedp.Evaluate(expression, &v))
	return v
}

// until waits until an expression is true in the page.
func (p *tab) until(what, expression string) {
	p.t.Helper()
	for end := time.Now().Add(20 * time.Second); !ask[bool](p, expression); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			p.Picture("late")
			p.t.Fatalf("not shown: %s (%s)", what, expression)
		}
	}
}

// click clicks on what a selector finds.
func (p *tab) click(selector string) {
	p.t.Helper()
	p.Run(chromedp.Click(selector, chromedp.ByQuery))
}

// row is the selector of a playback's row.
func row(id string) string { return fmt.Sprintf(`tr[data-session="%s"]`, id) }

// in is what a part of an element holds, in the page's own words.
func in(selector, part string) string {
	return fmt.Sprintf(`document.querySelector('%s [data-part="%s"]')?.textContent`, selector, part)
}

func TestPageShowsAndFollows(t *testing.T) {
	t.Parallel()
	h := build(t, 3, "", quick, hostileTitle, "Small Film")
	p := h.open("/lb", 1280, 900, false) // without its slash
	p.until("three servers", `document.querySelectorAll("#server-list [data-server]").length === 3`)
	h.mustStart(1, "one", hostileDevice)
	h.mustStart(2, "two", "Living Room")
	p.until("both playbacks, with title and client", in(row("two"), "label")+` === "Small Film" && `+in(row("two"), "client")+` === "Living Room (Plex Web)" && `+
		fmt.Sprintf("%s === %q && %s.startsWith(%q)", in(row("one"), "label"), hostileTitle, in(row("one"), "client"), `"><svg onload=`))
	if got := ask[string](p, in(row("two"), "kind")+` + " " + `+in(row("two"), "why")); got != "GPU the least load for its weight" {
		t.Errorf("kind and reason are %q", got)
	}
	p.click(row("one") + " a")
	p.until("the candidates", `document.querySelectorAll('#explanation[open] [data-table="candidates"] tbody tr').length === 3`)
	p.Picture("explanation")
	if got := ask[string](p, `document.querySelector("#explanation-head bdi").textContent`); got != hostileTitle {
		t.Errorf("the explanation is headed %q", got)
	}
	p.click("#explanation-close")
	if n := ask[int](p, `document.querySelectorAll("button[data-do]").length`); n != 0 {
		t.Errorf("a page that only shows has %d buttons", n)
	}

	from := ask[string](p, in(row("two"), "server"))
	var lost *string
	for i, s := range h.Plex {
		if name := fmt.Sprintf("plex%d", i+1); name == from {
			s.Close()
			lost = &name
		}
	}
	if lost == nil {
		t.Fatalf("the playback is on %q", from)
	}
	p.until("the dead server", fmt.Sprintf(`document.querySelector('[data-server="%s"]').dataset.state === "down" && !document.getElementById("warnings").hidden && document.getElementById("warnings").textContent.includes("%s")`, *lost, *lost))
	p.until("a warning in the title", `/\d/.test(document.title)`)
	p.Picture("light")

	// Nothing of what was shown has become part of the page.
	if ask[bool](p, `"owned" in window`) || ask[int](p, `document.querySelectorAll("#data img, #data script, #data svg[onload]").length`) != 0 {
		t.Error("a title has become markup")
	}
	if h, w := ask[int](p, "document.documentElement.scrollWidth"), ask[int](p, "document.documentElement.clientWidth"); h > w {
		t.Errorf("the page is %d wide in a window of %d", h, w)
	}
}

func TestPageActs(t *testing.T) {
	t.Parallel()
	h := build(t, 3, "{\ncontrol\n}", quick, "Small Film")
	h.mustStart(1, "one", "Living Room")
	p := h.open("/lb/", 1280, 900, true)
	p.until("the playback", in(row("one"), "label")+` === "Small Film"`)
	from := ask[string](p, in(row("one"), "server"))
	drain := fmt.Sprintf(`[data-server="%s"] button[data-do="drain"]`, from)
	state := fmt.Sprintf(`document.querySelector('[data-server="%s"]').dataset.state`, from)

	p.click(drain)
	p.until("the question", `document.getElementById("control").open && document.getElementById("control-what").textContent.includes("takes no new playbacks")`)
	p.Picture("question")
	p.click("#control-cancel")
	time.Sleep(2 * time.Second)
	if got := ask[string](p, state); got != "up" {
		t.Errorf("it was not confirmed, and the server is %s", got)
	}

	p.click(drain)
	p.click(`#control input[value="now"]`)
	p.click("#control-confirm")
	p.until("the server drained, its playback elsewhere, and the move", state+` === "drained" && `+in(row("one"), "server")+fmt.Sprintf(` !== %q && `, from)+
		`document.querySelectorAll('#move-list [data-move="one"]').length === 1`)
	p.Picture("dark")

	p.click(fmt.Sprintf(`[data-server="%s"] button[data-do="undrain"]`, from))
	p.click("#control-confirm")
	p.until("the server up", state+` === "up"`)
	p.click(row("one") + ` button[data-do="move"]`)
	p.until("the choice", `document.getElementById("control-server").options.length === 2`)
	p.Run(chromedp.SetValue("#control-server", from, chromedp.ByQuery))
	p.click("#control-confirm")
	p.until("the playback back", in(row("one"), "server")+fmt.Sprintf(` === %q`, from))
}

func TestPageOnAPhone(t *testing.T) {
	t.Parallel()
	h := build(t, 2, "{\ncontrol\n}", quick, strings.Repeat("Long ", 60)+hostileTitle, "Small Film")
	h.mustStart(1, "one", strings.Repeat("W", 150))
	h.mustStart(2, "two", "Living Room")
	p := h.open("/lb/", 360, 740, true)
	p.until("both playbacks", in(row("two"), "label")+` === "Small Film" && `+in(row("one"), "label")+`.startsWith("Long")`)
	if w := ask[int](p, "document.documentElement.scrollWidth"); w > 360 {
		t.Errorf("the page is %d wide on a phone of 360", w)
	}
	p.Picture("top")
	p.Run(chromedp.ScrollIntoView("#playbacks", chromedp.ByQuery))
	p.Picture("playbacks")
}

// Where others begin transcodes as well a choice has one more column.
func TestPageTellsWhatIsExpected(t *testing.T) {
	t.Parallel()
	h := build(t, 2, "", quick, "Small Film")
	h.mustStart(1, "first", "Living Room") // by when the servers are read
	p := h.open("/lb/", 360, 740, false)
	p.until("the first playback, listed by its server", in(row("first"), "kind")+` === "GPU"`)
	time.Sleep(time.Second)
	h.Plex[0].AddBypass(8)
	p.until("what came past", `Number(`+in(`[data-server="plex1"]`, "n-gpu")+`) >= 8`)
	h.mustStart(1, "one", "Kitchen")
	p.until("the playback", in(row("one"), "label")+` === "Small Film"`)
	p.click(row("one") + " a")
	p.until("the candidates", `document.querySelectorAll('#explanation[open] [data-table="candidates"] tbody tr').length === 2`)
	head := ask[[]string](p, `[...document.querySelectorAll('#explanation [data-table="candidates"] thead th')].map((e) => e.textContent)`)
	cells := ask[[]string](p, `[...document.querySelectorAll('#explanation [data-table="candidates"] tbody tr:first-child td, #explanation [data-table="candidates"] tbody tr:first-child th')].map((e) => e.textContent)`)
	p.Picture("expected")
	if len(head) != 7 || head[2] != "Expected" || len(cells) != 7 || cells[0] != "plex2" {
		t.Fatalf("the candidates are headed %q, the first is %q", head, cells)
	}
	if x, err := strconv.ParseFloat(cells[2], 64); err != nil || x < 0.2 || x > 2 {
		t.Errorf("%s is expected: %v", cells[2], err)
	}
	if w := ask[int](p, "document.documentElement.scrollWidth"); w > 360 {
		t.Errorf("the page is %d wide on a phone of 360", w)
	}
}
