package issuer

import (
	"context"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/tlog"
)

// Payloads are evidence, requests and decision inputs: personal data and most of the bytes stand there. Statements name
// them by digest, so deleting them breaks no proof; what is lost is deciding again.

const (
	bucketHold   = "hold"   // name -> Hold
	bucketPurged = "purged" // "index" -> the index before which payloads are gone
	counterHold  = "hold"   // raised whenever a hold is placed or lifted
)

// purgeStep is how many entries' payloads are deleted in one transaction, so that nobody waits long for the log.
const purgeStep = 5000

// MinRetention is the least age of payloads that are deleted: six months, the least that the EU AI Act (articles 19 and
// 26) allows.
const MinRetention = 183 * 24 * time.Hour

// Hold is a legal hold: no payload of an entry from index From on is deleted while it is there.
type Hold struct {
	Name   string `cbor:"1,keyasint" json:"name"`
	From   uint64 `cbor:"2,keyasint" json:"from"`
	Reason string `cbor:"3,keyasint" json:"reason"`
	Since  uint64 `cbor:"4,keyasint" json:"since"`
}

// PlaceHold places a legal hold, and logs that. A name that is empty or taken, words that are long, and a hold that begins behind the
// next entry are refused: nobody knows what a later one will be about, so that such an index is a slip.
func (i *Issuer) PlaceHold(ctx context.Context, h Hold) error {
	if h.Name == "" || len(h.Name) > 200 || len(h.Reason) > 2000 {
		return denial.New(denial.RequestLimit, "a hold needs a name of at most 200 bytes, and a reason of at most 2000")
	}
	return i.retain(ctx, record.Retention{Act: record.Held, Index: h.From, Name: h.Name, Reason: h.Reason}, func(at uint64, entry *tlog.Entry) error {
		if _, found, err := i.log.Value(ctx, bucketHold, []byte(h.Name)); err != nil || found {
			return refusedHold(err, "there is a hold of this name")
		}
		if size := i.log.Head().Size; h.From > size {
			return denial.New(denial.NotPermitted, "the log has %d entries, and the hold would begin at entry %d", size, h.From).
				Try("Name an entry that is there, or the number of entries to hold what comes from now on.")
		}
		h.Since = at
		row, err := put(bucketHold, []byte(h.Name), h)
		entry.Puts, entry.Bumps = []tlog.Put{row}, []string{counterHold}
		return err
	})
}

// LiftHold lifts a legal hold, and logs that.
func (i *Issuer) LiftHold(ctx context.Context, name string) error {
	return i.retain(ctx, record.Retention{Act: record.Released, Name: name}, func(_ uint64, entry *tlog.Entry) error {
		if _, found, err := i.log.Value(ctx, bucketHold, []byte(name)); err != nil || !found {
			return refusedHold(err, "there is no hold of this name")
		}
		entry.Puts, entry.Bumps = []tlog.Put{{Bucket: bucketHold, Key: []byte(name)}}, []string{counterHold}
		return nil
	})
}

func refusedHold(err error, detail string) error {
	if err != nil {
		return err
	}
	return denial.New(denial.NotPermitted, "%s", detail).Try("See the holds with \"writd hold list\".")
}

// Holds returns the legal holds, by name.
func (i *Issuer) Holds(ctx context.Context) ([]Hold, error) {
	all := []Hold{}
	err := i.log.Each(ctx, bucketHold, nil, func(name, _ []byte) error {
		var h Hold
		_, err := load(ctx, i.log, bucketHold, name, &h)
		all = append(all, h)
		return err
	})
	return all, err
}

// Purge deletes the payloads that only entries logged before the time brought, except those under a hold, and logs that.
// Payloads younger than MinRetention are never deleted: such a time is refused. It returns the index before which
// payloads are gone, 0 if there are none to delete. Enrolment requests stay: evidence is verified by them.
func (i *Issuer) Purge(ctx context.Context, before time.Time) (uint64, error) {
	if before.After(i.now().Add(-MinRetention)) {
		return 0, denial.New(denial.NotPermitted, "payloads are kept for at least %d days", MinRetention/(24*time.Hour)).Try("Choose a time that lies further back.")
	}
	end, err := i.log.SizeAt(ctx, uint64(max(before.Unix(), 0)))
	if err != nil {
		return 0, err
	}
	done, err := i.purged(ctx)
	for err == nil && done < end {
		next := min(done+purgeStep, end)
		var now uint64
		if now, err = i.purgeTo(ctx, next); now < next {
			return max(done, now), err // held
		}
		done = now
	}
	return done, err
}

// purged returns the index before which payloads are gone.
func (i *Issuer) purged(ctx context.Context) (uint64, error) {
	var done uint64
	_, err := load(ctx, i.log, bucketPurged, []byte("index"), &done)
	return done, err
}

// purgeTo deletes payloads up to an index, or the first that is held, which it returns.
func (i *Issuer) purgeTo(ctx context.Context, end uint64) (uint64, error) {
	done, err := i.purged(ctx)
	if err != nil {
		return 0, err
	}
	limit := end
	holds, err := i.Holds(ctx)
	if err != nil {
		return 0, err
	}
	for _, h := range holds {
		limit = min(limit, h.From)
	}
	if limit <= done {
		return done, nil
	}
	err = i.retain(ctx, record.Retention{Act: record.Deleted, Index: limit}, func(_ uint64, entry *tlog.Entry) error {
		now, err := i.Holds(ctx)
		if err != nil {
			return err
		}
		for _, h := range now {
			if h.From < limit {
				return denial.New(denial.NotPermitted, "a hold was placed meanwhile").Try("See the holds with \"writd hold list\", and try again.")
			}
		}
		row, err := put(bucketPurged, []byte("index"), limit)
		entry.Purge, entry.Puts = limit, []tlog.Put{row}
		return err
	})
	return limit, err
}

// retain logs a record of retention with what belongs to it, decided anew while the holds have changed meanwhile.
func (i *Issuer) retain(ctx context.Context, r record.Retention, beside func(at uint64, entry *tlog.Entry) error) error {
	return untilFresh(func() error {
		version, err := i.log.Counter(ctx, counterHold)
		if err != nil {
			return err
		}
		var entry tlog.Entry
		at := uint64(i.now().Unix())
		if err := beside(at, &entry); err != nil {
			return err
		}
		entry.Guards = []tlog.Guard{{Counter: counterHold, Value: version}}
		about := i.newRecord()
		about.Time, about.Event, about.Retention = at, record.EventKept, &r
		if err = i.signRecord(ctx, &entry, about, i.genesis.Issuer); err != nil {
			return err
		}
		_, err = i.append(ctx, entry)
		return err
	})
}
