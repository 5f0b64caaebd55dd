package balance

// Preface stands before the tables: a format for the date, the processor, its
// cores, Go's version, the command, and the number of seeds.
const Preface = `## Balance

%s, %s, %d cores, %s: ` + "`%s`" + `. Virtual time, so that the machine does not matter; %d seeds where no other number is given, medians (least–most).

plexlb's own ledger is driven as the plug-in drives it, with a reading of each server every 5 s, and events where a scenario does not say otherwise. The same viewers come to each contender. What is measured is how full the fullest server is for its weight, over time:

- *to the oracle*: in comparison to one that sees all servers as they truly are at each start, also what came past it a moment ago, and takes the one that will be the least full. It leaves no room for what comes past it next, which plexlb does, so that plexlb is below it where much does;
- *to one that knows the decision*: the same, which also knows beforehand what the server will decide a playback to be. Nothing in front of servers knows that: it is in their answer;
- *to an informed oracle*: one with plexlb's sources and none of its doubts. It learns from answers, clients, readings and events when plexlb does, but knows a false reading when it sees one, what a gap in one means, and who asked and will never begin. It leaves no room either. Where plexlb is further from the oracle than from this one, the difference is mostly what nothing in front of the servers can know in time: who has just gone past it or to the other balancer, what a server is still to answer, whose player has gone without a word;
- *to the ideal*: in comparison to all servers being equally full, which whole playbacks do not allow.

None knows the future. Ratios to oracles are over all seeds together, ± twice the standard error: of one seed alone they may be one or two hundredths off, as few playbacks make up who is fullest. *Misplaced* is the share of starts for which another server would have been less full at that moment, by the truth, were it a transcode in hardware, which is all that can be known of it then. Where others place playbacks as well plexlb leaves close calls to chance, and so misplaces more, but not onto servers that are fuller by a whole transcode. With many servers or in a crowd it is mostly a matter of hundredths: of a thousand servers some always look a little fuller than they are, as it takes half a second until a server has answered what a playback is.

`
