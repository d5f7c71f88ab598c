// Package schedule says when a cron schedule is due: the next time after a moment,
// and which times went by since another. It does no waiting and holds no clock.
//
// A schedule is due in every minute in which the wall clock of its time zone reads
// as its fields say. So, as with a Kubernetes CronJob, a time that the clock leaps
// over in spring does not come that day, and a time that it reads twice in autumn
// comes twice: a daily run at 02:30 in Europe/Berlin is better put at 03:30, or in UTC.
//
// The fields are those of a CronJob: five of them, or one of @yearly, @annually,
// @monthly, @weekly, @daily, @midnight and @hourly. Where day of month and day of
// week are both restricted, one of them has to match (Vixie cron, crontab(5)).
//
// Not taken, although a CronJob's parser lets it pass: @every. Its times depend on
// when it was first looked at, so that after a restart, or in another process,
// nobody could say which of them were missed.
package schedule
