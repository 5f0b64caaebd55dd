package plex

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"
)

// What can be wrong with an answer. None of these means "nothing is playing":
// a caller keeps what it knew [P §10.9].
var (
	ErrUnauthorized = errors.New("token missing or refused")                // 401
	ErrForbidden    = errors.New("token lacks permission")                  // 403
	ErrNotFound     = errors.New("not found")                               // 404
	ErrMaintenance  = errors.New("server is starting or under maintenance") // 503 [P §2]
	ErrNotPMS       = errors.New("not an answer of a Plex Media Server")
	ErrTruncated    = errors.New("answer cut short")
	ErrTooLarge     = errors.New("answer too large")
)

// StatusError is an HTTP status for which there is no error of its own.
type StatusError struct {
	Code int
}

func (e StatusError) Error() string {
	return fmt.Sprintf("HTTP status %d", e.Code)
}

// statusError returns the error a status stands for, nil for a good one.
// Redirects count as foreign: PMS sends none for what we ask, and following
// one would carry the token to another host.
func statusError(code int) error {
	switch {
	case code >= 200 && code < 300:
		return nil
	case code >= 300 && code < 400:
		return fmt.Errorf("%w: redirect %d", ErrNotPMS, code)
	}
	switch code {
	case http.StatusUnauthorized:
		return ErrUnauthorized
	case http.StatusForbidden:
		return ErrForbidden
	case http.StatusNotFound:
		return ErrNotFound
	case http.StatusServiceUnavailable:
		return ErrMaintenance
	}
	return StatusError{code}
}

// bare strips the URL that net/http puts around its errors: it may be the
// operator's, with credentials in it.
func bare(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// Reason returns the one word of a fixed set that says why a question to a
// server failed, for metric labels; "" if it did not.
func Reason(err error) string {
	if err == nil {
		return ""
	}
	for _, r := range []struct {
		err  error
		word string
	}{
		{ErrUnauthorized, "unauthorized"},
		{ErrForbidden, "forbidden"},
		{ErrNotFound, "not_found"},
		{ErrMaintenance, "maintenance"},
		{ErrNotPMS, "not_pms"},
		{ErrTruncated, "truncated"},
		{ErrTooLarge, "too_large"},
		{context.Canceled, "canceled"},
		{context.DeadlineExceeded, "timeout"},
		{os.ErrDeadlineExceeded, "timeout"},
		{syscall.ECONNREFUSED, "refused"},
	} {
		if errors.Is(err, r.err) {
			return r.word
		}
	}
	if _, ok := errors.AsType[StatusError](err); ok {
		return "status"
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return "timeout"
	}
	return "unreachable"
}
