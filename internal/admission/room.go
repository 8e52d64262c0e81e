package admission

import (
	"container/list"
	"sync"
)

// A Room holds those of whom nothing is known yet, at most Size. When it is full, the oldest of the most numerous address leaves.
// So one who takes many places and does nothing takes them from themselves, and who finishes soon is hardly ever asked to leave.
type Room struct {
	Size    int
	OnEvict func() // if set, hears of each one that had to leave

	mu    sync.Mutex
	seats map[Address]*list.List // of *Seat, oldest first
	sizes crowd
	taken int
}

// A Seat is a place in a room. The nil Seat is a place in none.
type Seat struct {
	room  *Room
	from  Address
	leave func()
	place *list.Element // nil: left
}

// NewRoom returns an empty room.
func NewRoom(size int, onEvict func()) *Room {
	return &Room{Size: size, OnEvict: onEvict, seats: map[Address]*list.List{}, sizes: newCrowd()}
}

// Sit takes a place. leave is called, once at most and from any goroutine, if the place is needed for somebody else.
func (r *Room) Sit(from Address, leave func()) *Seat {
	s := &Seat{room: r, from: from, leave: leave}
	r.mu.Lock()
	var evicted *Seat
	if r.taken >= r.Size {
		evicted = r.oldest()
	}
	l := r.seats[from]
	if l == nil {
		l = list.New()
		r.seats[from] = l
	}
	s.place = l.PushBack(s)
	r.sizes.grow(from)
	r.taken++
	r.mu.Unlock()
	r.evict(evicted)
	return s
}

// EvictOne frees the place that the next newcomer to a full room would get; false if the room is empty.
func (r *Room) EvictOne() bool {
	r.mu.Lock()
	s := r.oldest()
	r.mu.Unlock()
	r.evict(s)
	return s != nil
}

func (r *Room) evict(s *Seat) {
	if s == nil {
		return
	}
	if r.OnEvict != nil {
		r.OnEvict()
	}
	s.leave()
}

// oldest takes the oldest of the most numerous out of the room.
func (r *Room) oldest() *Seat {
	from, n := r.sizes.largest()
	if n == 0 {
		return nil
	}
	s := r.seats[from].Front().Value.(*Seat)
	r.remove(s)
	return s
}

func (r *Room) remove(s *Seat) {
	if s.place == nil {
		return
	}
	l := r.seats[s.from]
	l.Remove(s.place)
	s.place = nil
	if l.Len() == 0 {
		delete(r.seats, s.from)
	}
	r.sizes.shrink(s.from)
	r.taken--
}

// Leave gives the place back. It may be called more than once.
func (s *Seat) Leave() {
	if s == nil {
		return
	}
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	s.room.remove(s)
}

// Taken returns how many are in the room.
func (r *Room) Taken() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.taken
}
