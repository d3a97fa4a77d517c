// Package tlog is the append-only Merkle log in SQLite, with the projections and the consumed sets that are written in
// the same transaction as the entries that they follow from.
//
// # One writer
//
// Append hands its entries to one writer goroutine, which puts all requests that wait into one transaction, each under
// a savepoint of its own, so that a refused request harms no other. After the commit a second goroutine signs one tree
// head for the batch and answers each caller with its receipt, while the writer goes on with the next batch. So
// nothing is answered before it is durable and under a signed head.
//
// # What is kept when things break
//
//   - No commit: AuditUnavailable (902), and nothing of the batch is in the log. A commit or a sync that fails leaves it
//     open what is on the disk; the log then refuses every Append until it is opened and checked again.
//   - No signature after the commit: HSMUnavailable (903). The entries stay in the log, without receipt, so they never
//     left; their head is signed as soon as the key works again, and nothing is appended before that.
//   - Killed: every entry that was answered is found again. Heads that were not yet stored signed are signed anew, with
//     the same time.
//   - The clock stands before the last head: ClockUntrusted (905), and nothing is appended. Logged time never goes back,
//     so a clock that was set far ahead stops the log until real time has caught up.
//
// # Files
//
// Beside the database at Path (with its -wal and -shm) lie Path.lock, which keeps a second writer out, and Path.mark:
// the size and root that were committed last. A database that is older than its mark has lost what was acknowledged and
// is refused (906). Who restores a backup on purpose removes the mark. Who can write these files can make the log
// refuse to open, and can roll all of them back together; they cannot change an entry without Scrub or any holder of a
// receipt finding out.
//
// RFC 6962 gives the tree; its nodes are stored as they become complete, so opening reads none of the entries and a
// proof reads a few dozen rows. Entries are found by digest, and by the names that they have, in sorted runs (see run),
// each in the block of a run where it would stand. What an entry brings is stored with it, and found by its digest as a name.
package tlog
