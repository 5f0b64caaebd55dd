// Package balance simulates how evenly playbacks are placed, by plexlb and by
// what else is in use, in virtual time.
//
// A [Scenario] is plain data: servers, viewers, and what goes wrong. From it and
// a seed follows who asks for what and when. The same viewers then come to each
// contender: plexlb's own ledger, driven through the calls that the plug-in
// makes, in their order; policies that see what they would see of real servers;
// and oracles. What each of them makes of it is measured on the servers as they
// truly are.
//
// Loads are in hardware transcodes, and what a kind of work costs a server is
// what the ledger takes it for by default. A playback counts from its
// placement on, as its server is committed to it, until its server ends it.
package balance
