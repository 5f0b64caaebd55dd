package main

import (
	"fmt"
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
