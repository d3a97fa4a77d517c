// Package witness has the checkpoints of a log cosigned by witnesses, and publishes them.
//
// A witness (C2SP tlog-witness) is a service of somebody else. It keeps the newest checkpoint of a log that it has seen,
// and cosigns another one only if the log proves that it has merely grown. So a log whose operator shows one tree to some
// and another to others, sets it back, or starts it anew, gets no cosignatures any more; and who demands those of enough
// operators believes no such log.
//
// The cosignatures come from the network and the threshold from the configuration. Who can change the configuration
// can do without witnesses; nobody believes the checkpoints who demands witnesses himself.
package witness
