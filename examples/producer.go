// A producer in Go, with RabbitMQ's client (github.com/rabbitmq/amqp091-go; Debian: golang-github-rabbitmq-amqp091-go-dev):
// AMQP_URL=amqp://... go run producer.go org-123 100
//
// Publishes persistent messages with confirms and `mandatory`, and waits for all confirms before it closes: a message
// whose producer closes at once may be lost. Ends with 1 if an event is not confirmed; publish it again with the same event_id.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

type object map[string]interface{}

func newUUID() string {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic(err)
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func argument(number int, fallback string) string {
	if len(os.Args) > number {
		return os.Args[number]
	}
	return fallback
}

func publish(organization string, count int) (int, error) {
	connection, err := amqp.Dial(os.Getenv("AMQP_URL"))
	if err != nil {
		return 0, err
	}
	defer connection.Close()
	channel, err := connection.Channel()
	if err != nil {
		return 0, err
	}
	if err := channel.Confirm(false); err != nil {
		return 0, err
	}
	returns := channel.NotifyReturn(make(chan amqp.Return, count))
	confirms := channel.NotifyPublish(make(chan amqp.Confirmation, count))
	closed := channel.NotifyClose(make(chan *amqp.Error, 1))
	exchange := os.Getenv("CNS_EVENTS_EXCHANGE")
	if exchange == "" {
		exchange = "cns.events"
	}
	bomID := newUUID()
	for number := 0; number < count; number++ {
		// The same id for each attempt of a step: built from its run, its name and the event.
		id := fmt.Sprintf("%s/enrichment/%d", bomID, number)
		body, err := json.Marshal(object{
			"event_id":        id,
			"event_type":      "enrichment_progress",
			"bom_id":          bomID,
			"organization_id": organization,
			"workflow_id":     "enrich-" + bomID,
			"source":          "customer",
			"state":           object{"status": "running", "percent": number},
			"payload":         object{"mpn": fmt.Sprintf("MPN-%d", number), "status": "matched", "confidence": 0.97},
			"created_at":      time.Now().UTC().Format(time.RFC3339Nano),
		})
		if err != nil {
			return 0, err
		}
		// `mandatory`: returned, instead of lost, if no queue takes it.
		err = channel.PublishWithContext(context.Background(), exchange, "cns.enrichment.progress", true, false, amqp.Publishing{
			ContentType:  "application/json",
			DeliveryMode: amqp.Persistent,
			MessageId:    id,
			Type:         "enrichment_progress",
			Priority:     4,
			AppId:        "producer.go",
			Timestamp:    time.Now(),
			Body:         body,
		})
		if err != nil {
			return 0, err
		}
	}
	confirmed := 0
	for seen := 0; seen < count; seen++ {
		select {
		case confirm := <-confirms:
			if confirm.Ack {
				confirmed++
			}
		case err := <-closed:
			return confirmed, err
		case <-time.After(30 * time.Second):
			return confirmed, fmt.Errorf("no confirm within 30 s")
		}
	}
	// A broker that returns a message confirms it too; the return comes first.
	return confirmed - len(returns), nil
}

func main() {
	count, err := strconv.Atoi(argument(2, "100"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "usage: producer ORGANIZATION COUNT")
		os.Exit(2)
	}
	confirmed, err := publish(argument(1, "org-123"), count)
	if err != nil {
		fmt.Fprintln(os.Stderr, "not published:", err)
		os.Exit(1)
	}
	fmt.Printf("confirmed: %d, left: %d\n", confirmed, count-confirmed)
	if confirmed < count {
		os.Exit(1)
	}
}
