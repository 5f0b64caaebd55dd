package main

import (
	"fmt"
	"math"
	"slices"
)

// sample is some measurements of one thing.
type sample []float64

// quantile is the value below which the share q of the sample lies.
func (s sample) quantile(q float64) float64 {
	s = slices.Sorted(slices.Values(s))
	at := q * float64(len(s)-1)
	low := int(at)
	high := min(low+1, len(s)-1)
	return s[low] + (at-float64(low))*(s[high]-s[low])
}

func (s sample) median() float64 { return s.quantile(0.5) }

// show is the median and, of more than one, the quartiles.
func (s sample) show(format string) string {
	switch len(s) {
	case 0:
		return "–"
	case 1:
		return fmt.Sprintf(format, s[0])
	}
	low, high := fmt.Sprintf(format, s.quantile(0.25)), fmt.Sprintf(format, s.quantile(0.75))
	middle := fmt.Sprintf(format, s.median())
	if low == high {
		return middle
	}
	return fmt.Sprintf("%s (%s–%s)", middle, low, high)
}

// showOver is the median with its uncertainty over parts, and the quartiles.
func (s sample) showOver(parts int, format string) string {
	if len(s) < 2*parts {
		return s.show(format)
	}
	return fmt.Sprintf(format+" ± "+format+" ("+format+"–"+format+")", s.median(), s.uncertainty(parts), s.quantile(0.25), s.quantile(0.75))
}

// uncertainty is twice the standard error of the median, from how those of the
// parts that it was taken in differ, one after the other.
func (s sample) uncertainty(parts int) float64 {
	var medians sample
	for rest := s; parts > len(medians); {
		n := share(len(rest), parts-len(medians))
		medians = append(medians, rest[:n].median())
		rest = rest[n:]
	}
	var mean, squares float64
	for _, m := range medians {
		mean += m / float64(parts)
	}
	for _, m := range medians {
		squares += (m - mean) * (m - mean)
	}
	return 2 * math.Sqrt(squares/float64(parts-1)/float64(parts))
}

// share is what the first of some parts gets of n things, as even as it goes.
func share(n, parts int) int { return (n + parts - 1) / parts }
