package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/governed-execution/writ/denial"
)

// How often health is looked at, and after how many looks an alarm is said again while it lasts.
const (
	lookEvery  = time.Second
	alarmAgain = 60
)

// alarm says in the journal, as an error, that nothing is permitted because the log takes nothing or the token does not sign: as soon as it is
// so, again and again while it is so, and when it is over. It looks each time the channel gives, until ctx ends.
func alarm(ctx context.Context, tick <-chan time.Time, healthy func() error, log *slog.Logger) {
	sick := 0 // looks since it is so
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		err := healthy()
		switch {
		case err != nil && sick%alarmAgain == 0:
			d := denial.Of(err)
			log.Error("ALARM: unhealthy, nothing is permitted", "code", d.Reason.Code(), "reason", d.Reason.String(), "detail", d.Detail)
			sick++
		case err != nil:
			sick++
		case sick > 0:
			log.Warn("alarm over: healthy again")
			sick = 0
		}
	}
}
