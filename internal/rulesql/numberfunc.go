package rulesql

import (
	"math"
	"math/big"
)

// numberFunctions convert texts to numbers; anything else that is no number makes them Undefined.
var numberFunctions = []function{
	ofNumber("abs", func(e *evaluation, v Value) Value {
		if v.sign() < 0 {
			v = negate(v)
		}
		return e.number(v)
	}),
	ofNumber("sign", func(_ *evaluation, v Value) Value { return intValue(int64(v.sign())) }),
	ofNumber("ceil", func(_ *evaluation, v Value) Value { return v.round(up) }),
	ofNumber("floor", func(_ *evaluation, v Value) Value { return v.round(down) }),
	ofNumber("round", func(_ *evaluation, v Value) Value { return v.round(nearest) }),
	{name: "trunc", min: 2, max: 2, params: "number, places", run: truncate},
	{name: "mod", min: 2, max: 2, params: "number, divisor", run: modulo},
	{name: "remainder", min: 2, max: 2, params: "number, divisor", run: modulo},

	// These work in double precision; what is no real number is Undefined.
	ofDouble("sqrt", math.Sqrt), ofDouble("exp", math.Exp), ofDouble("ln", math.Log), ofDouble("log", math.Log10),
	ofDouble("sin", math.Sin), ofDouble("cos", math.Cos), ofDouble("tan", math.Tan),
	ofDouble("asin", math.Asin), ofDouble("acos", math.Acos), ofDouble("atan", math.Atan),
	ofDouble("sinh", math.Sinh), ofDouble("cosh", math.Cosh), ofDouble("tanh", math.Tanh),
	ofDoubles("atan2", "y, x", math.Atan2), ofDoubles("power", "base, exponent", math.Pow),

	ofInts("bitand", (*big.Int).And), ofInts("bitor", (*big.Int).Or), ofInts("bitxor", (*big.Int).Xor),
	{name: "bitnot", min: 1, max: 1, params: "int", run: func(_ *evaluation, _ *call, args []Value) Value {
		v := args[0].toIntDown()
		if v.kind != integer {
			return Value{}
		}
		return integerOf(new(big.Int).Not(v.coefficient()))
	}},
}

func ofNumber(name string, f func(e *evaluation, v Value) Value) function {
	return function{name: name, min: 1, max: 1, params: "number", run: func(e *evaluation, _ *call, args []Value) Value {
		v := args[0].toDecimal()
		if v.kind == undefined {
			return v
		}
		return f(e, v)
	}}
}

func ofDouble(name string, f func(float64) float64) function {
	return ofNumber(name, func(e *evaluation, v Value) Value { return e.number(fromFloat(f(v.float()))) })
}

func ofDoubles(name, params string, f func(x, y float64) float64) function {
	return function{name: name, min: 2, max: 2, params: params, run: func(e *evaluation, _ *call, args []Value) Value {
		x, y := args[0].toDecimal(), args[1].toDecimal()
		if x.kind == undefined || y.kind == undefined {
			return Value{}
		}
		return e.number(fromFloat(f(x.float(), y.float())))
	}}
}

// ofInts are bitwise functions; arguments are rounded down, negative ones count as two's complement of any length.
func ofInts(name string, f func(z, x, y *big.Int) *big.Int) function {
	return function{name: name, min: 2, max: 2, params: "int, int", run: func(_ *evaluation, _ *call, args []Value) Value {
		x, y := args[0].toIntDown(), args[1].toIntDown()
		if x.kind != integer || y.kind != integer {
			return Value{}
		}
		return integerOf(f(new(big.Int), x.coefficient(), y.coefficient()))
	}}
}

// truncate keeps 0 to 34 digits after the point; the number of digits may not be a text.
func truncate(e *evaluation, _ *call, args []Value) Value {
	v, places := args[0].toDecimal(), args[1]
	if v.kind == undefined || !places.isNumber() {
		return Value{}
	}
	if v.kind == integer {
		return v
	}
	return e.number(v.truncated(places.toIntDown().clamped(0, maxDigits)))
}

func modulo(e *evaluation, _ *call, args []Value) Value {
	return e.arithmetic(opModulo, args[0], args[1])
}
