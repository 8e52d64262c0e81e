package rulesql

import (
	"cmp"
	"math"
	"math/big"
	"math/bits"
	"strconv"
	"strings"
	"sync"
)

// Numbers are exact: a coefficient times a power of ten, of at most 34 digits and magnitudes from 1E-999 up to 9.99…E999
// (iot-core spec 8.3). A coefficient that fits is kept in an int64, since nearly all do. What has more digits is rounded half to
// even; what is too large is no number at all, what is too small is zero. Decimals keep their trailing zeros, as 1.50 does.
const (
	maxDigits    = 34
	maxMagnitude = 999
)

// small is the number n × 10^exp.
func small(k kind, n int64, exp int) Value { return Value{kind: k, n: n, exp: int32(exp)} }

func intValue(n int64) Value { return Value{kind: integer, n: n} }

// coefficient returns the digits of a number with its sign. It must not be changed.
func (v Value) coefficient() *big.Int {
	if v.big != nil {
		return v.big
	}
	return big.NewInt(v.n)
}

func (v Value) sign() int {
	switch {
	case v.big != nil:
		return v.big.Sign()
	case v.n > 0:
		return 1
	case v.n < 0:
		return -1
	}
	return 0
}

// decimalOf makes the Decimal c × 10^exp; one that is too large is Undefined.
func decimalOf(c *big.Int, exp int) Value {
	d := digits(c)
	if d > maxDigits {
		c, exp = roundDown(c, d-maxDigits), exp+d-maxDigits
		if d = digits(c); d > maxDigits { // 99…9 went up to 100…0
			c, exp, d = new(big.Int).Quo(c, pow10(1)), exp+1, d-1
		}
	}
	switch magnitude := d - 1 + exp; {
	case c.Sign() == 0 || magnitude < -maxMagnitude:
		return small(decimal, 0, max(min(exp, 0), -maxDigits))
	case magnitude > maxMagnitude:
		return Value{}
	}
	v := Value{kind: decimal, exp: int32(exp)}
	return v.with(c)
}

// integerOf makes the Int c, or a Decimal if it has more than 34 digits.
func integerOf(c *big.Int) Value {
	if digits(c) > maxDigits {
		return decimalOf(c, 0)
	}
	return Value{kind: integer}.with(c)
}

func (v Value) with(c *big.Int) Value {
	if c.IsInt64() {
		v.n = c.Int64()
	} else {
		v.big = c
	}
	return v
}

// whole turns a Decimal without fraction into an Int, as SQL version 2016-03-23 does (iot-core spec 8.3).
func (v Value) whole() Value {
	if v.kind != decimal {
		return v
	}
	if v.exp == 0 {
		if v.big != nil && digits(v.big) > maxDigits {
			return v
		}
		v.kind = integer
		return v
	}
	if v.exp < 0 {
		if v.big == nil {
			n, exp := v.n, v.exp
			for exp < 0 && n%10 == 0 {
				n, exp = n/10, exp+1
				if n == 0 {
					exp = 0
				}
			}
			if exp == 0 {
				return intValue(n)
			}
			return v
		}
		q, r := new(big.Int).QuoRem(v.big, pow10(int(-v.exp)), new(big.Int))
		if r.Sign() == 0 {
			return Value{kind: integer}.with(q)
		}
		return v
	}
	if c := v.coefficient(); digits(c)+int(v.exp) <= maxDigits {
		return Value{kind: integer}.with(new(big.Int).Mul(c, pow10(int(v.exp))))
	}
	return v
}

// kindOf is the type of a sum, a product or a quotient: Int only of two Ints.
func kindOf(a, b Value) kind {
	if a.kind == integer && b.kind == integer {
		return integer
	}
	return decimal
}

func made(k kind, c *big.Int, exp int) Value {
	if k == integer {
		return integerOf(c)
	}
	return decimalOf(c, exp)
}

func add(a, b Value) Value {
	if x, y, exp, ok := alignSmall(a, b); ok && exp <= maxMagnitude-2*maxDigits {
		if s := x + y; (s > x) == (y > 0) {
			return small(kindOf(a, b), s, exp)
		}
	}
	x, y, exp := align(a, b)
	return made(kindOf(a, b), new(big.Int).Add(x, y), exp)
}

func negate(a Value) Value {
	if a.big == nil && a.n != math.MinInt64 {
		a.n = -a.n
		return a
	}
	return made(a.kind, new(big.Int).Neg(a.coefficient()), int(a.exp))
}

func multiply(a, b Value) Value {
	exp := int(a.exp) + int(b.exp)
	if a.big == nil && b.big == nil && exp > -maxMagnitude && exp < maxMagnitude-2*maxDigits {
		hi, lo := bits.Mul64(magnitude64(a.n), magnitude64(b.n))
		if hi == 0 && lo < 1<<62 {
			n := int64(lo)
			if (a.n < 0) != (b.n < 0) {
				n = -n
			}
			return small(kindOf(a, b), n, exp)
		}
	}
	return made(kindOf(a, b), new(big.Int).Mul(a.coefficient(), b.coefficient()), exp)
}

func magnitude64(n int64) uint64 {
	if n < 0 {
		return -uint64(n)
	}
	return uint64(n)
}

// divide: two Ints give an Int, cut off; anything else 34 digits. By zero it is Undefined.
func divide(a, b Value) Value {
	if b.sign() == 0 {
		return Value{}
	}
	if kindOf(a, b) == integer {
		if a.big == nil && b.big == nil && a.n != math.MinInt64 {
			return intValue(a.n / b.n)
		}
		return integerOf(new(big.Int).Quo(a.coefficient(), b.coefficient()))
	}
	x, y := a.coefficient(), b.coefficient()
	preferred := int(a.exp) - int(b.exp)
	exp := preferred
	if k := maxDigits + 3 + digits(y) - digits(x); k > 0 {
		x, exp = new(big.Int).Mul(x, pow10(k)), exp-k
	}
	q, r := new(big.Int).QuoRem(x, y, new(big.Int))
	if r.Sign() != 0 { // a last digit that keeps the rounding honest
		q.Mul(q, pow10(1)).Add(q, big.NewInt(int64(x.Sign()*y.Sign())))
		return decimalOf(q, exp-1)
	}
	for m := new(big.Int); exp < preferred && q.Sign() != 0; exp++ {
		t, m := new(big.Int).QuoRem(q, pow10(1), m)
		if m.Sign() != 0 {
			break
		}
		q = t
	}
	if q.Sign() == 0 {
		exp = preferred
	}
	return decimalOf(q, exp)
}

// remainder has the sign of a. By zero it is Undefined.
func remainder(a, b Value) Value {
	if b.sign() == 0 {
		return Value{}
	}
	if x, y, exp, ok := alignSmall(a, b); ok && y != -1 {
		return small(kindOf(a, b), x%y, exp)
	}
	x, y, exp := align(a, b)
	return made(kindOf(a, b), new(big.Int).Rem(x, y), exp)
}

// compare is negative, zero or positive as a is less than, equal to or greater than b.
func compare(a, b Value) int {
	if x, y, _, ok := alignSmall(a, b); ok {
		return cmp.Compare(x, y)
	}
	if sa, sb := a.sign(), b.sign(); sa != sb {
		return sa - sb
	}
	x, y, _ := align(a, b)
	return x.Cmp(y)
}

// alignSmall is align for coefficients that fit into an int64; ok is false for others.
func alignSmall(a, b Value) (x, y int64, exp int, ok bool) {
	gap := int(a.exp) - int(b.exp)
	switch {
	case a.big != nil || b.big != nil || gap > 18 || gap < -18:
		return 0, 0, 0, false
	case gap == 0:
		return a.n, b.n, int(a.exp), true
	case gap > 0:
		x, ok = scaled(a.n, gap)
		return x, b.n, int(b.exp), ok
	}
	y, ok = scaled(b.n, -gap)
	return a.n, y, int(a.exp), ok
}

// scaled returns n × 10^places, unless that is too large.
func scaled(n int64, places int) (int64, bool) {
	unit := smallPowers[places]
	if limit := math.MaxInt64 / unit; n > limit || n < -limit {
		return 0, false
	}
	return n * unit, true
}

var smallPowers = func() (p [19]int64) {
	p[0] = 1
	for i := 1; i < len(p); i++ {
		p[i] = 10 * p[i-1]
	}
	return p
}()

// align writes both numbers with the smaller of their exponents.
func align(a, b Value) (x, y *big.Int, exp int) {
	x, y = a.coefficient(), b.coefficient()
	switch {
	case a.exp > b.exp:
		return new(big.Int).Mul(x, pow10(int(a.exp-b.exp))), y, int(b.exp)
	case a.exp < b.exp:
		return x, new(big.Int).Mul(y, pow10(int(b.exp-a.exp))), int(a.exp)
	}
	return x, y, int(a.exp)
}

// A rounding says which whole number stands for one with a fraction.
type rounding int

const (
	down    rounding = iota // floor
	up                      // ceil
	cut                     // towards zero
	nearest                 // a half goes away from zero
)

// round returns the Int next to v, a Decimal if that has more than 34 digits.
func (v Value) round(how rounding) Value {
	if v.kind == integer {
		return v
	}
	c := v.coefficient()
	if v.exp >= 0 {
		return v.whole()
	}
	unit, q, r := pow10(0), new(big.Int), c
	if digits(c)+int(v.exp) >= 0 { // smaller ones are less than a tenth: no need to divide
		unit = pow10(int(-v.exp))
		q, r = q.QuoRem(c, unit, new(big.Int))
	}
	if r.Sign() == 0 {
		return integerOf(q)
	}
	away := false
	switch how {
	case down:
		away = c.Sign() < 0
	case up:
		away = c.Sign() > 0
	case nearest:
		away = r != c && r.Abs(r).Lsh(r, 1).Cmp(unit) >= 0
	}
	if away {
		q.Add(q, big.NewInt(int64(c.Sign())))
	}
	return integerOf(q)
}

// truncated keeps at most n digits after the point and drops trailing zeros.
func (v Value) truncated(n int) Value {
	c, exp := v.coefficient(), int(v.exp)
	if exp < -n {
		c, exp = new(big.Int).Quo(c, pow10(-n-exp)), -n
	}
	for exp < 0 {
		q, r := new(big.Int).QuoRem(c, pow10(1), new(big.Int))
		if r.Sign() != 0 {
			break
		}
		c, exp = q, exp+1
	}
	return decimalOf(c, exp)
}

// clamped returns an Int as an int between lo and hi.
func (v Value) clamped(lo, hi int) int {
	if v.kind != integer || v.big != nil {
		if v.sign() < 0 {
			return lo
		}
		return hi
	}
	return int(max(min(v.n, int64(hi)), int64(lo)))
}

// float is the number in double precision.
func (v Value) float() float64 {
	if v.big == nil && v.exp == 0 {
		return float64(v.n)
	}
	f, _ := strconv.ParseFloat(string(appendNumber(nil, v)), 64) // out of range gives an infinity
	return f
}

// fromFloat makes a Decimal with the fewest digits that mean f and at least one after the point: 3 is 3.0. What is no number
// is Undefined: NaN, and infinities.
func fromFloat(f float64) Value {
	switch {
	case math.IsNaN(f) || math.IsInf(f, 0):
		return Value{}
	case f == 0:
		return small(decimal, 0, -1)
	}
	text := strconv.FormatFloat(f, 'e', -1, 64)
	mantissa, power, _ := strings.Cut(text, "e")
	exp, _ := strconv.Atoi(power)
	whole, fraction, _ := strings.Cut(mantissa, ".")
	places := 1 // digits that must follow the first one
	if a := math.Abs(f); a >= 1e-3 && a < 1e7 {
		places = exp + 1 // written without exponent: one after the units
	}
	for len(fraction) < places {
		fraction += "0"
	}
	c, _ := new(big.Int).SetString(whole+fraction, 10)
	return decimalOf(c, exp-len(fraction))
}

// isNumberText is the rule for texts that convert to numbers: ^-?\d+(\.\d+)?((?i)E-?\d+)?$ (iot-core spec 8.3).
func isNumberText(s string) bool {
	s = strings.TrimPrefix(s, "-")
	n := countDigits(s)
	if n == 0 {
		return false
	}
	s = s[n:]
	if rest, ok := strings.CutPrefix(s, "."); ok {
		if n = countDigits(rest); n == 0 {
			return false
		}
		s = rest[n:]
	}
	if s != "" && (s[0] == 'e' || s[0] == 'E') {
		s = strings.TrimPrefix(s[1:], "-")
		return s != "" && countDigits(s) == len(s)
	}
	return s == ""
}

func countDigits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

// parseNumber reads a number whose grammar has been checked: an Int if there is neither point nor exponent. One that is too
// large is Undefined.
func parseNumber(s string) Value {
	k, exp := integer, 0
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		k = decimal
		power := s[i+1:]
		p, err := strconv.Atoi(power)
		if err != nil || p > 1e6 || p < -1e6 { // far out of range, whatever the digits are (at most MaxMessage of them)
			p = 1e6
			if power[0] == '-' {
				p = -1e6
			}
		}
		s, exp = s[:i], p
	}
	digits := s
	if i := strings.IndexByte(s, '.'); i >= 0 {
		k = decimal
		exp -= len(s) - i - 1
		digits = s[:i] + s[i+1:]
	}
	if len(digits) <= 18 {
		n, _ := strconv.ParseInt(digits, 10, 64)
		if n == 0 {
			exp = max(min(exp, 0), -maxDigits)
		}
		if k == integer || exp >= -maxMagnitude && exp <= maxMagnitude-18 {
			return small(k, n, exp)
		}
	}
	negative := strings.HasPrefix(digits, "-")
	digits = strings.TrimLeft(strings.TrimPrefix(digits, "-"), "0")
	if more := len(digits) - 2*maxDigits; more > 0 { // enough to round; a last digit stands for those left out
		sticky := strings.TrimLeft(digits[2*maxDigits:], "0") != ""
		digits, exp = digits[:2*maxDigits], exp+more
		if sticky {
			digits, exp = digits+"1", exp-1
		}
	} else if digits == "" {
		digits = "0"
	}
	c, _ := new(big.Int).SetString(digits, 10)
	if negative {
		c.Neg(c)
	}
	if k == integer && exp == 0 {
		return integerOf(c)
	}
	return decimalOf(c, exp)
}

// appendNumber writes a number as Java's BigDecimal does: without exponent, unless that needs zeros that say nothing.
func appendNumber(b []byte, v Value) []byte {
	exp := int(v.exp)
	if exp == 0 && v.big == nil {
		return strconv.AppendInt(b, v.n, 10)
	}
	var buf [maxDigits + 1]byte
	text := buf[:0]
	if v.big != nil {
		text = v.big.Append(text, 10)
	} else {
		text = strconv.AppendInt(text, v.n, 10)
	}
	if text[0] == '-' {
		b, text = append(b, '-'), text[1:]
	}
	magnitude := len(text) - 1 + exp
	switch {
	case exp == 0:
		return append(b, text...)
	case exp > 0 || magnitude < -6:
		b = append(b, text[0])
		if len(text) > 1 {
			b = append(append(b, '.'), text[1:]...)
		}
		b = append(b, 'E')
		if magnitude >= 0 {
			b = append(b, '+')
		}
		return strconv.AppendInt(b, int64(magnitude), 10)
	case magnitude >= 0:
		b = append(b, text[:magnitude+1]...)
		return append(append(b, '.'), text[magnitude+1:]...)
	}
	b = append(b, "0."...)
	for range -magnitude - 1 {
		b = append(b, '0')
	}
	return append(b, text...)
}

var powers = sync.OnceValue(func() *[80]*big.Int {
	p := new([80]*big.Int)
	for i := range p {
		p[i] = new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(i)), nil)
	}
	return p
})

// pow10 returns 10^n, which must not be changed.
func pow10(n int) *big.Int {
	if p := powers(); n < len(p) {
		return p[n]
	}
	return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil)
}

// digits counts the decimal digits of c; zero has one.
func digits(c *big.Int) int {
	if c.Sign() == 0 {
		return 1
	}
	n := int(float64(c.BitLen()-1) * math.Log10(2)) // never more than there are less one
	for c.CmpAbs(pow10(n)) >= 0 {
		n++
	}
	return n
}

// roundDown drops the last n digits of c, half to even.
func roundDown(c *big.Int, n int) *big.Int {
	unit := pow10(n)
	q, r := new(big.Int).QuoRem(c, unit, new(big.Int))
	half := r.Abs(r).Lsh(r, 1).Cmp(unit)
	if half > 0 || half == 0 && q.Bit(0) == 1 {
		q.Add(q, big.NewInt(int64(c.Sign())))
	}
	return q
}
