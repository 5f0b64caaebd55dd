package players

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"

	"github.com/plexlb/caddy-plexlb/internal/e2e/browser"
)

// chromium is the browser that all players share; each has a window of its own.
var chromium = sync.OnceValues(func() (context.Context, error) {
	path, err := exec.LookPath("chromium")
	if err != nil {
		return nil, err
	}
	ctx, cancel := browser.New(context.Background(), path,
		chromedp.Flag("autoplay-policy", "no-user-gesture-required"),
		// Caddy's certificate is from an authority of its own.
		chromedp.Flag("ignore-certificate-errors", true))
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
	*browser.Tab
	t       *testing.T
	library string
}

// play opens a player of a library, hls.js or dash.js, and begins the film.
func (h *house) play(t *testing.T, library string) *tab {
	t.Helper()
	shared, err := chromium()
	if err != nil {
		t.Fatalf("there is no browser: %v", err)
	}
	// What is in a window behind others, or in a tab that is not shown, is not
	// drawn.
	window, err := target.CreateTarget("about:blank").WithNewWindow(true).Do(cdp.WithExecutor(shared, chromedp.FromContext(shared).Browser))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := chromedp.NewContext(shared, chromedp.WithTargetID(window))
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 4*time.Minute)
	t.Cleanup(cancel)
	id := strings.ReplaceAll(library, ".", "")
	home := func(url string) bool {
		return strings.HasPrefix(url, h.URL+"/") || strings.HasPrefix(url, "data:") || strings.HasPrefix(url, "blob:")
	}
	p := &tab{browser.Watch(ctx, t, id, home), t, library}
	p.Run(chromedp.EmulateViewport(480, 270), chromedp.Navigate(h.URL+"/players/index.html"))
	settings, err := json.Marshal(map[string]any{
		"playback": "playback-" + id, "client": "client-" + id, "transcode": "transcode-" + id, "token": token,
		"buffer": buffer.Seconds(), "timeline": timelineEvery.Milliseconds(), "duration": filmSeconds * 1000, "ping": false,
	})
	if err != nil {
		t.Fatal(err)
	}
	p.do(fmt.Sprintf("play(%q, %s)", library, settings))
	return p
}

func (p *tab) name() string { return p.library }

func (p *tab) begin() { p.do("begin()") }

// do has the page do something.
func (p *tab) do(what string) {
	p.t.Helper()
	p.Run(chromedp.Evaluate("void "+what, nil))
}

func (p *tab) report() (v period) {
	p.t.Helper()
	p.Run(chromedp.Evaluate("report()", &v))
	return v
}
