// Command caddy is Caddy with this module, for tests that kill it. It ends with
// its standard input, so that it does not outlive a test that was killed
// itself.
package main

import (
	"io"
	"os"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/plexlb/caddy-plexlb"
)

func main() {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	caddycmd.Main()
}
