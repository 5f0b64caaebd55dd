// Package browser lets tests look at pages in Chromium.
package browser

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// New returns the context of a Chromium that runs until it is cancelled.
func New(ctx context.Context, chromium string, options ...chromedp.ExecAllocatorOption) (context.Context, context.CancelFunc) {
	all := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(chromium), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	ctx, kill := chromedp.NewExecAllocator(ctx, append(all, options...)...)
	// It knows fewer events than Chromium has, and would say so each time.
	ctx, cancel := chromedp.NewContext(ctx, chromedp.WithErrorf(func(string, ...any) {}))
	return ctx, func() { cancel(); kill() }
}

// Tab is a page that a test looks at.
type Tab struct {
	t    *testing.T
	ctx  context.Context
	name string
	mu   sync.Mutex
	wild []string
}

// Watch looks at the page of a context for as long as the test lasts, and fails
// the test for exceptions in it and for what it asks of others than its home.
// The name is for pictures.
func Watch(ctx context.Context, t *testing.T, name string, home func(url string) bool) *Tab {
	t.Helper()
	p := &Tab{t: t, ctx: ctx, name: name}
	chromedp.ListenTarget(ctx, func(e any) {
		switch e := e.(type) {
		case *runtime.EventExceptionThrown:
			p.Complain("exception: " + e.ExceptionDetails.Error())
		case *network.EventRequestWillBeSent:
			if !home(e.Request.URL) {
				p.Complain("request: " + e.Request.URL)
			}
		}
	})
	t.Cleanup(func() {
		if t.Failed() {
			p.Picture("failed")
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, what := range p.wild {
			t.Error(what)
		}
	})
	p.Run(network.Enable())
	return p
}

// Complain fails the test in its own time.
func (p *Tab) Complain(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wild = append(p.wild, p.name+" "+what)
}

// Run does something in the page, and ends the test if that fails.
func (p *Tab) Run(actions ...chromedp.Action) {
	p.t.Helper()
	if err := chromedp.Run(p.ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

// Picture keeps what the page looks like, in the folder that PLEXLB_PICTURES
// names, if it does.
func (p *Tab) Picture(of string) {
	dir := os.Getenv("PLEXLB_PICTURES")
	if dir == "" {
		return
	}
	var png []byte
	if err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot(&png)); err != nil {
		p.t.Log(err)
		return
	}
	file := filepath.Join(dir, strings.ReplaceAll(p.t.Name(), "/", "_")+"_"+p.name+"_"+of+".png")
	if err := os.WriteFile(file, png, 0o644); err != nil {
		p.t.Error(err)
	}
}
