package main

import (
	"math"
	"testing"
)

func TestQuantile(t *testing.T) {
	s := sample{4, 1, 3, 2, 5}
	for q, want := range map[float64]float64{0: 1, 0.25: 2, 0.5: 3, 0.75: 4, 0.875: 4.5, 1: 5} {
		if got := s.quantile(q); got != want {
			t.Errorf("quantile(%v) = %v, want %v", q, got, want)
		}
	}
	if s[0] != 4 {
		t.Error("the sample was put in order, which loses which round a value is of")
	}
}

func TestShow(t *testing.T) {
	for name, tc := range map[string]struct {
		s    sample
		want string
	}{
		"nothing":          {nil, "–"},
		"one":              {sample{2}, "2.0"},
		"no spread to see": {sample{2, 2.01, 1.99}, "2.0"},
		"a spread":         {sample{1, 2, 3, 4, 5}, "3.0 (2.0–4.0)"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tc.s.show("%.1f"); got != tc.want {
				t.Errorf("show() = %q, want %q", got, tc.want)
			}
		})
	}
}

func TestUncertainty(t *testing.T) {
	// Medians of the parts are 1, 2 and 3; their standard error is 1/√3.
	s := sample{1, 9, 0, 2, 2, 3, 3, 3}
	if got, want := s.uncertainty(3), 2/math.Sqrt(3); math.Abs(got-want) > 1e-9 {
		t.Errorf("uncertainty = %v, want %v", got, want)
	}
	if got, want := s.showOver(3, "%.1f"), "2.5 ± 1.2 (1.8–3.0)"; got != want {
		t.Errorf("showOver() = %q, want %q", got, want)
	}
	if got, want := s[:5].showOver(3, "%.1f"), s[:5].show("%.1f"); got != want {
		t.Errorf("of few: %q, want %q", got, want)
	}
}

// Whatever slows the machine for a while slows a round, not a peer.
func TestRatiosAreTakenWithinARound(t *testing.T) {
	c := costs{{
		{{processor: 11}, {processor: 22}, {processor: 110}},
		{{processor: 10}, {processor: 20}, {processor: 100}},
	}}
	for _, r := range c.ratio(0, 0) {
		if r < 1.0999 || r > 1.1001 {
			t.Errorf("ratios are %v, want 1.1 in each round", c.ratio(0, 0))
		}
	}
}
