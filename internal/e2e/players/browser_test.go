package players

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
)

// chromium is the browser that all players share; each has a window of its own.
var chromium = sync.OnceValues(func() (context.Context, error) {
	path, err := exec.LookPath("chromium")
	if err != nil {
		return nil, err
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("autoplay-policy", "no-user-gesture-required"),
		// Caddy's certificate is from an authority of its own.
		chromedp.Flag("ignore-certificate-errors", true))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	// It knows fewer events than Chromium has, and would say so each time.
	ctx, _ = chromedp.NewContext(ctx, chromedp.WithErrorf(func(string, ...any) {}))
	if err := chromedp.Run(ctx); err != nil {
		cancel()
		return nil, err
	}
	closeChromium = func() { _ = chromedp.Cancel(ctx); cancel() }
	return ctx, nil
})

// closeChromium ends the browser, if there is one.
var closeChromium = func() {}

// period is what the viewer of a player has seen since an event, in
// milliseconds and numbers of frames; see page/player.js.
type period struct {
	Startup    float64      `json:"startup"`
	Lasted     float64      `json:"lasted"`
	Longest    float64      `json:"longest"`
	Stalls     int          `json:"stalls"` // pictures that stood still for half a second
	Missed     float64      `json:"missed"` // of the film, at most at once
	Frames     int          `json:"frames"`
	Unreadable int          `json:"unreadable"`
	Back       [][2]int     `json:"back"`
	Off        float64      `json:"off"` // seconds between the picture's clock and the player's
	Servers    []int        `json:"servers"`
	Errors     []string     `json:"errors"`
	Fatal      []string     `json:"fatal"`
	Frame      int          `json:"frame"`
	Server     int          `json:"server"`
	Paused     bool         `json:"paused"`
	Time       float64      `json:"time"`
	Ready      int          `json:"ready"`
	Buffered   [][2]float64 `json:"buffered"`
}

// tab is a player in a window of the browser.
type tab struct {
	t       *testing.T
	ctx     context.Context
	library string
	id      string

	mu   sync.Mutex
	wild []string // whom it asked besides its own host, and what its script failed with
}

// play opens a player of a library, hls.js or dash.js, and begins the film.
func (h *house) play(t *testing.T, library string) *tab {
	t.Helper()
	browser, err := chromium()
	if err != nil {
		t.Fatalf("there is no browser: %v", err)
	}
	// What is in a window behind others, or in a tab that is not shown, is not
	// drawn.
	window, err := target.CreateTarget("about:blank").WithNewWindow(true).Do(cdp.WithExecutor(browser, chromedp.FromContext(browser).Browser))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithTargetID(window))
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 4*time.Minute)
	t.Cleanup(cancel)
	id := strings.ReplaceAll(library, ".", "")
	p := &tab{t: t, ctx: ctx, library: library, id: id}
	chromedp.ListenTarget(ctx, func(e any) {
		switch e := e.(type) {
		case *runtime.EventExceptionThrown:
			p.complain("exception: " + e.ExceptionDetails.Error())
		case *network.EventRequestWillBeSent:
			if u := e.Request.URL; !strings.HasPrefix(u, h.URL+"/") && !strings.HasPrefix(u, "data:") && !strings.HasPrefix(u, "blob:") {
				p.complain("request: " + u)
			}
		}
	})
	p.run(network.Enable(), chromedp.EmulateViewport(480, 270), chromedp.Navigate(h.URL+"/players/index.html"))
	settings, err := json.Marshal(map[string]any{
		"playback": "playback-" + id, "client": "client-" + id, "transcode": "transcode-" + id, "token": token,
		"buffer": buffer.Seconds(), "timeline": timelineEvery.Milliseconds(), "duration": filmSeconds * 1000, "ping": false,
	})
	if err != nil {
		t.Fatal(err)
	}
	p.do(fmt.Sprintf("play(%q, %s)", library, settings))
	t.Cleanup(func() {
		if t.Failed() {
			p.picture("failed")
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, what := range p.wild {
			t.Errorf("%s: %s", library, what)
		}
	})
	return p
}

func (p *tab) complain(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wild = append(p.wild, what)
}

func (p *tab) run(actions ...chromedp.Action) {
	p.t.Helper()
	if err := chromedp.Run(p.ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

func (p *tab) name() string { return p.library }

func (p *tab) begin() { p.do("begin()") }

// do has the page do something.
func (p *tab) do(what string) {
	p.t.Helper()
	p.run(chromedp.Evaluate("void "+what, nil))
}

func (p *tab) report() (v period) {
	p.t.Helper()
	p.run(chromedp.Evaluate("report()", &v))
	return v
}

// picture keeps what the player shows, in the folder that PLEXLB_PICTURES names,
// if it does.
func (p *tab) picture(name string) {
	dir := os.Getenv("PLEXLB_PICTURES")
	if dir == "" {
		return
	}
	var png []byte
	if err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot(&png)); err != nil {
		p.t.Log(err)
		return
	}
	file := filepath.Join(dir, strings.ReplaceAll(p.t.Name(), "/", "_")+"_"+p.id+"_"+name+".png")
	if err := os.WriteFile(file, png, 0o644); err != nil {
		p.t.Error(err)
	}
}
