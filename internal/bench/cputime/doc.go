// Package cputime reads how much processor time other processes have taken.
package cputime
