package archiver

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

func TestGivesWayToReplication(t *testing.T) {
	r := newRig(t)
	writing := atomic.Bool{}
	writing.Store(true)
	r.yield = writing.Load
	r.configure(everything)
	for i := range 1500 {
		r.put(fmt.Sprint("a", i), "1")
	}
	r.start()
	began := time.Now()
	r.eventually("some are stored all the same", func() bool { return r.a.Counts().Stored > 50 })
	took, rate := time.Since(began), float64(r.a.pacer.limit.Limit())
	if most := int64(rate*took.Seconds()) + int64(r.a.pacer.limit.Burst()) + 10; r.a.Counts().Stored > most {
		t.Errorf("%d stored within %s, want at most %d", r.a.Counts().Stored, took, most)
	}
	writing.Store(false)
	r.eventually("then the rest", func() bool { return r.a.Counts().Stored == 1500 })
}

// However much is written at the destination, originals must not wait for ever.
func TestGivesWayForAWhileOnly(t *testing.T) {
	r := newRig(t)
	r.yield = func() bool { return true }
	r.configure(everything)
	for i := range 500 {
		rec := r.object(fmt.Sprint("a", i), "1")
		rec.ObservedAt = time.Now().Add(-2 * yieldFor)
		r.append(rec)
	}
	r.start()
	began := time.Now()
	r.eventually("all are stored", func() bool { return r.a.Counts().Stored == 500 })
	if paced := time.Duration(500 / float64(r.a.pacer.limit.Limit()) * float64(time.Second)); time.Since(began) > paced/2 {
		t.Errorf("it took %s, at the pace of giving way it is %s", time.Since(began), paced)
	}
}
