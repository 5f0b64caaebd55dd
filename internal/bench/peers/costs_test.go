package main

import "testing"

// Who comes first meets a machine that has just done something else.
func TestEverybodyComesFirstEquallyOften(t *testing.T) {
	for _, of := range []int{1, 2, 3, 6, 7} {
		first := make([]int, of)
		for round := range 4 * of {
			seen := make([]bool, of)
			for n := range of {
				seen[turn(round, n, of)] = true
			}
			for i, ok := range seen {
				if !ok {
					t.Fatalf("round %d of %d: %d is left out", round, of, i)
				}
			}
			first[turn(round, 0, of)]++
		}
		for i, n := range first {
			if n != 4 {
				t.Errorf("of %d, number %d comes first %d times in %d rounds: %v", of, i, n, 4*of, first)
			}
		}
	}
}
