package plex

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
)

// Client asks one server questions. Its errors never hold the token, a URL or
// anything else of the request. With nothing but a URL it asks as nobody, which
// is enough for Identity. It can be used by several goroutines at once.
type Client struct {
	URL   string       // "http://host:port", without a slash at the end
	Token string       // of the server's owner; others may not read sessions [P §1.1]
	HTTP  *http.Client // nil for http.DefaultClient; redirects are never followed
}

// Identity is what a server tells everybody of itself.
type Identity struct {
	MachineIdentifier string
	Version           string
	Claimed           bool // belongs to an account, so nearly everything needs a token
}

// Identity asks a server who it is. It answers without a token, and proves
// that the web thread lives, no more [P §2].
func (c *Client) Identity(ctx context.Context) (Identity, error) {
	n, err := c.fetch(ctx, "/identity")
	var id Identity
	if err == nil {
		id, err = readIdentity(n)
	}
	if err != nil {
		return Identity{}, fmt.Errorf("reading identity: %w", err)
	}
	return id, nil
}

func readIdentity(n *node) (Identity, error) {
	if n.text("machineIdentifier") == "" {
		return Identity{}, fmt.Errorf("%w: no machineIdentifier", ErrNotPMS)
	}
	return Identity{
		MachineIdentifier: n.text("machineIdentifier"),
		Version:           n.text("version"),
		Claimed:           n.boolean("claimed"),
	}, nil
}

// Sessions returns what players are doing.
func (c *Client) Sessions(ctx context.Context) ([]Session, error) {
	n, err := c.fetch(ctx, "/status/sessions")
	var sessions []Session
	if err == nil {
		sessions, err = readSessions(n)
	}
	if err != nil {
		return nil, fmt.Errorf("reading sessions: %w", err)
	}
	return sessions, nil
}

// Transcodes returns all conversions, with and without a player: downloads and
// captures are in no session [P §1.6].
func (c *Client) Transcodes(ctx context.Context) ([]Transcode, error) {
	n, err := c.fetch(ctx, "/transcode/sessions")
	var transcodes []Transcode
	if err == nil {
		transcodes, err = readTranscodes(n)
	}
	if err != nil {
		return nil, fmt.Errorf("reading transcodes: %w", err)
	}
	return transcodes, nil
}

// Transcode returns one conversion, ErrNotFound if the server does not know it.
func (c *Client) Transcode(ctx context.Context, id string) (Transcode, error) {
	t, err := c.transcode(ctx, id)
	if err != nil {
		return Transcode{}, fmt.Errorf("reading transcode: %w", err)
	}
	return t, nil
}

func (c *Client) transcode(ctx context.Context, id string) (Transcode, error) {
	if id == "" || id == "." || id == ".." {
		return Transcode{}, ErrNotFound // as a path these would ask something else
	}
	n, err := c.fetch(ctx, transcodePrefix+url.PathEscape(id))
	if err != nil {
		return Transcode{}, err
	}
	items := n.all("TranscodeSession")
	for _, item := range items {
		if t := readTranscode(item); t.ID == id {
			return t, nil
		}
	}
	if len(items) == 1 && items[0].text("key") == "" {
		t := readTranscode(items[0])
		t.ID = id
		return t, nil
	}
	return Transcode{}, ErrNotFound
}

// Stop ends a conversion. A server that does not know it has nothing to stop,
// and one that stopped it may say the same [P §2]. Calls must be spaced out:
// several in a row have crashed servers [P §10.34].
func (c *Client) Stop(ctx context.Context, id string) error {
	if id == "" {
		return errors.New("stopping transcode: no id")
	}
	resp, err := c.get(ctx, "/video/:/transcode/universal/stop?session="+url.QueryEscape(id))
	if err == nil {
		resp.Body.Close()
		err = statusError(resp.StatusCode)
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("stopping transcode: %w", err)
	}
	return nil
}

// fetch asks for a document and returns its MediaContainer.
func (c *Client) fetch(ctx context.Context, target string) (*node, error) {
	n, _, err := c.answer(ctx, target)
	return n, err
}

// answer is fetch with the header of the answer, nil if there was none.
func (c *Client) answer(ctx context.Context, target string) (*node, http.Header, error) {
	resp, err := c.get(ctx, target)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	if err := statusError(resp.StatusCode); err != nil {
		return nil, resp.Header, err
	}
	body, err := readBody(resp.Body)
	if err != nil {
		return nil, resp.Header, err
	}
	body, err = plain(resp.Header.Get("Content-Encoding"), body)
	if err != nil {
		return nil, resp.Header, err
	}
	n, err := readContainer(resp.Header.Get("Content-Type"), body)
	return n, resp.Header, err
}

// get sends a GET. The caller closes the body.
func (c *Client) get(ctx context.Context, target string) (*http.Response, error) {
	req, err := c.request(ctx, target)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := c.client().Do(req)
	if err != nil {
		return nil, bare(err)
	}
	return resp, nil
}

// request prepares a GET with the token.
func (c *Client) request(ctx context.Context, target string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL+target, nil)
	if err != nil {
		return nil, bare(err)
	}
	if c.Token != "" {
		req.Header.Set("X-Plex-Token", c.Token)
	}
	return req, nil
}

// client returns a copy of the HTTP client that follows no redirects.
func (c *Client) client() *http.Client {
	client := http.DefaultClient
	if c.HTTP != nil {
		client = c.HTTP
	}
	own := *client
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &own
}
