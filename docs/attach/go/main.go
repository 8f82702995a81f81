// Prints a world's ticks and bars, with franz-go and nothing of Arbitrex.
//
//	go run . 127.0.0.1:9092 http://127.0.0.1:8081 main [COUNT]
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"github.com/hamba/avro/v2"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
)

type tick struct {
	Symbol  string    `avro:"symbol"`
	TsEvent time.Time `avro:"ts_event"`
	Bid     float64   `avro:"bid"`
	Ask     float64   `avro:"ask"`
}

type bar struct {
	Symbol    string    `avro:"symbol"`
	Timeframe string    `avro:"timeframe"`
	TsOpen    time.Time `avro:"ts_open"`
	Open      float64   `avro:"open"`
	High      float64   `avro:"high"`
	Low       float64   `avro:"low"`
	Close     float64   `avro:"close"`
	Status    string    `avro:"status"`
	Revision  int       `avro:"revision"`
}

// decoder looks a writer's schema up once.
type decoder struct {
	registry *sr.Client
	schemas  map[int]avro.Schema
}

func (d *decoder) decode(ctx context.Context, value []byte, into any) error {
	var header sr.ConfluentHeader
	id, datum, err := header.DecodeID(value) // a zero byte and the schema's id come first
	if err != nil {
		return err
	}
	if d.schemas[id] == nil {
		found, err := d.registry.SchemaByID(ctx, id)
		if err != nil {
			return err
		}
		if d.schemas[id], err = avro.ParseWithCache(found.Schema, "", &avro.SchemaCache{}); err != nil {
			return err
		}
	}
	return avro.Unmarshal(d.schemas[id], datum, into)
}

func (d *decoder) line(ctx context.Context, record *kgo.Record) (string, error) {
	if strings.HasSuffix(record.Topic, ".bars") {
		var b bar
		err := d.decode(ctx, record.Value, &b)
		return fmt.Sprint(strings.Join([]string{record.Topic, b.Symbol, b.Timeframe, iso(b.TsOpen)}, " "), " ",
			number(b.Open), " ", number(b.High), " ", number(b.Low), " ", number(b.Close), " ", b.Status, " ", b.Revision), err
	}
	var t tick
	err := d.decode(ctx, record.Value, &t)
	return strings.Join([]string{record.Topic, t.Symbol, iso(t.TsEvent), number(t.Bid), number(t.Ask)}, " "), err
}

func iso(moment time.Time) string { return moment.UTC().Format("2006-01-02T15:04:05.000Z") }

func number(price float64) string { return strconv.FormatFloat(price, 'f', -1, 64) }

func run(brokers, registry, world string, left int) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	schemas, err := sr.NewClient(sr.URLs(registry))
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(brokers, ",")...),
		kgo.ConsumerGroup("attach-go"),
		kgo.ConsumeTopics(world+".ticks.clean", world+".bars"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), // not the default of this client
	)
	if err != nil {
		return err
	}
	defer client.Close()
	decoder := decoder{schemas, map[int]avro.Schema{}}
	for left != 0 {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil // Ctrl-C
		}
		if errs := fetches.Errors(); len(errs) > 0 {
			return errs[0].Err
		}
		for records := fetches.RecordIter(); !records.Done() && left != 0; {
			record := records.Next()
			if record.Value == nil { // a bar that was deleted
				continue
			}
			line, err := decoder.line(ctx, record)
			if err != nil {
				return err
			}
			fmt.Println(line)
			left--
		}
	}
	return nil
}

func main() {
	if len(os.Args) < 4 {
		log.Fatal("usage: go run . BROKERS REGISTRY WORLD [COUNT]")
	}
	count := -1
	if len(os.Args) > 4 {
		var err error
		if count, err = strconv.Atoi(os.Args[4]); err != nil {
			log.Fatal(err)
		}
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3], count); err != nil {
		log.Fatal(err)
	}
}
