// Command pms runs one stand-in of a Plex Media Server as a process of its
// own, for tests that kill processes and for the demo.
//
// It prints the address it listens on, and in a second line that of -control.
// SIGUSR1 makes it forget all sessions, as a PMS that reaped them; SIGTERM and
// SIGINT end it. One that was killed can be started again on the same -listen.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

func main() {
	var cfg plextest.Config
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on")
	manage := flag.String("control", "", "address at which GET /jobs and GET /log tell in JSON what there is, and PUT /behaviour changes how it behaves (default none)")
	attached := flag.Bool("attached", false, "end with standard input, so as not to outlive who started it")
	users := flag.String("user-tokens", "", "tokens of shared users, separated by commas")
	flag.StringVar(&cfg.Name, "name", "pms", "name shown in answers")
	flag.StringVar(&cfg.Token, "token", "", "the owner's token (default owner-token)")
	flag.StringVar(&cfg.MachineIdentifier, "machine", "", "machineIdentifier (default derived from the name)")
	flag.StringVar(&cfg.Database, "database", "", "servers of one database agree on part ids")
	flag.IntVar(&cfg.TranscodeLimit, "transcode-limit", 0, "video transcodes accepted, 0 for any number")
	flag.IntVar(&cfg.GPULimit, "gpu-limit", 0, "hardware encoders, 0 for any number")
	flag.BoolVar(&cfg.NoHardware, "no-hardware", false, "transcode in software only")
	flag.DurationVar(&cfg.Lag, "lag", 0, "time until a session is listed (default 400ms)")
	flag.DurationVar(&cfg.Unsettled, "unsettled", 0, "time until a GPU transcode looks like one (default 1s)")
	flag.DurationVar(&cfg.Reap, "reap", 0, "time until an idle transcode is killed (default 3m)")
	flag.DurationVar(&cfg.SegmentDuration, "segment-duration", 0, "length of a segment (default 1s)")
	flag.IntVar(&cfg.SegmentSize, "segment-size", 0, "bytes of a segment (default 16384)")
	flag.Parse()
	if *users != "" {
		cfg.UserTokens = strings.Split(*users, ",")
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if *attached {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			stop()
		}()
	}
	if err := run(ctx, cfg, *listen, *manage); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run serves until the context ends.
func run(ctx context.Context, cfg plextest.Config, listen, manage string) error {
	s := plextest.New(cfg)
	defer forgetOnSignal(s)()
	if err := s.StartOn(listen); err != nil {
		return err
	}
	defer s.Close()
	fmt.Println(s.Addr())
	if manage != "" {
		ln, err := net.Listen("tcp", manage)
		if err != nil {
			return fmt.Errorf("listening for control: %w", err)
		}
		srv := &http.Server{Handler: control(s)}
		defer srv.Close()
		go func() { _ = srv.Serve(ln) }()
		fmt.Println(ln.Addr())
	}
	<-ctx.Done()
	return nil
}
