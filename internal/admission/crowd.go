package admission

// A crowd counts by address and knows at any time who is most numerous; growing and shrinking take no longer for many.
type crowd struct {
	of     map[Address]int
	bySize map[int]map[Address]struct{}
	max    int
}

func newCrowd() crowd {
	return crowd{of: map[Address]int{}, bySize: map[int]map[Address]struct{}{}}
}

func (c *crowd) grow(a Address) {
	n := c.of[a] + 1
	c.move(a, n-1, n)
	c.max = max(c.max, n)
}

func (c *crowd) shrink(a Address) {
	n := c.of[a] - 1
	c.move(a, n+1, n)
	if len(c.bySize[c.max]) == 0 {
		c.max-- // whoever was alone at the top has size max-1 now
	}
}

func (c *crowd) move(a Address, from, to int) {
	if from > 0 {
		delete(c.bySize[from], a)
		if len(c.bySize[from]) == 0 {
			delete(c.bySize, from)
		}
	}
	if to == 0 {
		delete(c.of, a)
		return
	}
	c.of[a] = to
	if c.bySize[to] == nil {
		c.bySize[to] = map[Address]struct{}{}
	}
	c.bySize[to][a] = struct{}{}
}

// largest returns one of the most numerous, and how many it is; 0 if there is nobody.
func (c *crowd) largest() (Address, int) {
	for a := range c.bySize[c.max] {
		return a, c.max
	}
	return Address{}, 0
}
