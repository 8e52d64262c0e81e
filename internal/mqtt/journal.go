package mqtt

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A Journal keeps what a power cut must not take: persistent sessions with their subscriptions and waiting messages, and
// retained messages. The broker works on its own memory and reads the journal once per scope. Its methods are not called
// concurrently for one scope.
type Journal interface {
	// Load returns what is kept of a scope.
	Load(ctx context.Context, s fleet.Scope) (*Saved, error)

	// Write makes changes durable, in their order, all or none of them, and returns when they are. After an error the same
	// changes come again: what is put may be there already, what is dropped may be gone.
	Write(ctx context.Context, changes []Change) error
}

// Saved is what a Journal keeps of one scope.
type Saved struct {
	Sessions      []SavedSession
	Subscriptions []SavedSubscription
	Messages      []SavedMessage // in the order of their numbers
	Retained      []SavedRetained
}

// A SavedSession is a session that outlives its connection.
type SavedSession struct {
	Client  string
	Version byte
	Expiry  time.Duration
	Until   time.Time // its end; zero while the client is connected
}

// A SavedSubscription is one filter of a session.
type SavedSubscription struct {
	Client      string
	Filter      string // with "$share/name/"
	QoS         byte
	NoLocal     bool
	AsPublished bool
}

// A SavedMessage waits for its PUBACK. Owner is a client id, or the filter of a group of shared subscriptions, "$share/"
// included, which no client id can be.
type SavedMessage struct {
	Owner   string
	Number  int64 // rises with each message of the owner
	QoS     byte
	Retain  bool // the flag that the receiver gets
	Message *Message
}

// A SavedRetained is what is retained for its topic.
type SavedRetained struct {
	Message  *Message
	Modified time.Time
}

// A ChangeKind is what a Change does.
type ChangeKind int

const (
	PutSession       ChangeKind = iota
	DropSession                 // Session.Client alone counts; its subscriptions and messages go with it
	PutSubscription             //
	DropSubscription            // Subscription.Client and Filter count
	PutMessage                  //
	DropMessage                 // Message.Owner and Number count
	PutRetained                 //
	DropRetained                // Retained.Message.Topic counts
)

// A Change is one thing that a Journal is to keep or to forget. The member of its kind is set.
type Change struct {
	Kind         ChangeKind
	Scope        fleet.Scope
	Session      SavedSession
	Subscription SavedSubscription
	Message      SavedMessage
	Retained     SavedRetained
}

// A keeper hands changes to the journal: one goroutine while there are any, each time all that have gathered meanwhile, so that
// many publishers share one commit. A message that is acknowledged before its turn comes is never written. When the journal
// fails the keeper tries again until it works, and whoever waits goes on waiting: nothing is promised that is not kept.
type keeper struct {
	journal Journal
	b       *Broker
	ctx     context.Context // ends when there is no time left for writing
	stop    context.CancelFunc

	failing atomic.Bool

	mu       sync.Mutex
	waiting  []*entry
	gone     int                    // entries in waiting that are cancelled
	retained map[retainedKey]*entry // those in waiting: the last one of a topic counts
	running  bool
	closed   bool
	idle     chan struct{} // if somebody wants to know: closed when nothing is left
}

type retainedKey struct {
	scope fleet.Scope
	topic string
}

// An entry is a change on its way into the journal. keeper.mu guards it.
type entry struct {
	change  Change
	taken   bool // it is being written, or has been
	dropped bool // nobody needs it any more
	tickets []*ticket
}

// A write holds at most this much, so that nobody else waits long for the store.
const (
	maxChanges     = 256
	maxChangeBytes = 1 << 20
	retryAtFirst   = 100 * time.Millisecond
	retryAtLast    = 5 * time.Second
)

func newKeeper(b *Broker, j Journal) *keeper {
	if j == nil {
		return nil
	}
	k := &keeper{journal: j, b: b, retained: make(map[retainedKey]*entry)}
	k.ctx, k.stop = context.WithCancel(context.Background())
	return k
}

// add puts a change in line. t, if not nil, has been told to wait for it. k may be nil: nothing is kept then.
func (k *keeper) add(c Change, t *ticket) *entry {
	if k == nil {
		t.release()
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed { // whoever waits is closed as well
		return nil
	}
	if c.Kind == PutRetained || c.Kind == DropRetained {
		key := retainedKey{c.Scope, c.Retained.Message.Topic}
		if e := k.retained[key]; e != nil {
			e.change = c
			e.wait(t)
			return e
		}
		e := k.append(c, t)
		k.retained[key] = e
		return e
	}
	return k.append(c, t)
}

func (k *keeper) append(c Change, t *ticket) *entry {
	e := &entry{change: c}
	e.wait(t)
	k.waiting = append(k.waiting, e)
	if !k.running {
		k.running = true
		go k.run()
	}
	return e
}

func (e *entry) wait(t *ticket) {
	if t != nil {
		e.tickets = append(e.tickets, t)
	}
}

// forget takes back the PutMessage of e, which may be nil, or else has the message dropped from the journal.
func (k *keeper) forget(e *entry, s fleet.Scope, owner string, number int64) {
	if k == nil || number == 0 {
		return
	}
	if !k.cancel(e) {
		k.add(Change{Kind: DropMessage, Scope: s, Message: SavedMessage{Owner: owner, Number: number}}, nil)
	}
}

// cancel reports whether e will not be written. Who waits for it need not any more.
func (k *keeper) cancel(e *entry) bool {
	if e == nil {
		return false
	}
	k.mu.Lock()
	if e.taken {
		k.mu.Unlock()
		return false
	}
	e.dropped, e.taken = true, true
	tickets := e.tickets
	e.tickets, e.change.Message.Message = nil, nil
	if k.gone++; k.gone > 64 && k.gone > len(k.waiting)/2 {
		k.compact()
	}
	k.mu.Unlock()
	for _, t := range tickets {
		t.release()
	}
	return true
}

// compact removes cancelled entries, which must not pile up while the journal stands still.
func (k *keeper) compact() {
	left := k.waiting[:0]
	for _, e := range k.waiting {
		if !e.dropped {
			left = append(left, e)
		}
	}
	clear(k.waiting[len(left):])
	k.waiting, k.gone = left, 0
}

// run writes until nothing waits.
func (k *keeper) run() {
	for {
		batch := k.take()
		if batch == nil {
			return
		}
		if !k.write(batch) {
			return
		}
		for _, e := range batch {
			for _, t := range e.tickets {
				t.release()
			}
			e.tickets = nil
		}
	}
}

// take returns what is to be written next, nil if there is nothing: then run has ended.
func (k *keeper) take() (batch []*entry) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n, size := 0, int64(0)
	for ; n < len(k.waiting) && len(batch) < maxChanges && size < maxChangeBytes; n++ {
		e := k.waiting[n]
		if e.dropped {
			k.gone--
			continue
		}
		e.taken = true
		switch c := &e.change; c.Kind {
		case PutMessage:
			size += c.Message.Message.Size()
		case PutRetained, DropRetained:
			size += c.Retained.Message.Size()
			delete(k.retained, retainedKey{c.Scope, c.Retained.Message.Topic})
		case DropSession:
			size += maxChangeBytes / 8 // it may have many messages
		}
		batch = append(batch, e)
	}
	clear(k.waiting[:n])
	if k.waiting = k.waiting[n:]; len(k.waiting) == 0 {
		k.waiting = nil
	}
	if batch == nil {
		k.running = false
		if k.idle != nil {
			close(k.idle)
			k.idle = nil
		}
	}
	return batch
}

// write has the journal take a batch, however often it has to be asked. It reports false if there is no time left.
func (k *keeper) write(batch []*entry) bool {
	changes := make([]Change, len(batch))
	for i, e := range batch {
		changes[i] = e.change
	}
	for wait := retryAtFirst; ; wait = min(2*wait, retryAtLast) {
		err := k.journal.Write(k.ctx, changes)
		if err == nil {
			k.failing.Store(false)
			return true
		}
		if k.ctx.Err() != nil {
			return false
		}
		k.failing.Store(true)
		k.b.log.Error("sessions and messages cannot be stored: clients wait", "error", err)
		select {
		case <-time.After(wait):
		case <-k.ctx.Done():
			return false
		}
	}
}

// stuck reports whether the journal has failed and not worked since.
func (k *keeper) stuck() bool { return k != nil && k.failing.Load() }

// close writes what waits, until ctx ends, and takes no more.
func (k *keeper) close(ctx context.Context) error {
	if k == nil {
		return nil
	}
	defer k.stop()
	k.mu.Lock()
	k.closed = true
	var idle chan struct{}
	if k.running {
		idle = make(chan struct{})
		k.idle = idle
	}
	k.mu.Unlock()
	if idle == nil {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A ticket counts the changes that somebody waits for. It begins with one, which is the owner's to release when all others are
// added.
type ticket struct {
	left    atomic.Int32
	settled atomic.Bool
	done    func() // called once, by whoever releases last; must not block
}

// release says that one change is durable, or needed no more. t may be nil.
func (t *ticket) release() {
	if t != nil && t.left.Add(-1) == 0 {
		t.settle()
	}
}

// settle ends the wait, whatever is left.
func (t *ticket) settle() {
	if t.settled.CompareAndSwap(false, true) && t.done != nil {
		t.done()
	}
}

// A wait is a ticket that is made when the first change needs it: most messages need none. A nil wait is nobody's.
type wait struct{ t *ticket }

func (w *wait) ticket() *ticket {
	if w == nil {
		return nil
	}
	if w.t == nil {
		w.t = &ticket{}
		w.t.left.Store(1)
	}
	w.t.left.Add(1)
	return w.t
}

// channel returns what is closed when everything is durable, or when the ticket is settled otherwise. w has a ticket.
func (w *wait) channel() <-chan struct{} {
	done := make(chan struct{})
	w.t.done = func() { close(done) }
	return done
}

// now waits until everything is durable, or until ctx ends.
func (w *wait) now(ctx context.Context) error {
	if w.t == nil {
		return nil
	}
	done := w.channel()
	w.t.release()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
