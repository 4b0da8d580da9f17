//! Evaluates expressions.

use super::args::Arguments;
use super::ast::{Comparison, Constant, Expr, Postfix, Sign};
use super::error::{Result, failed};
use super::interpreter::Interpreter;
use super::meter::MeteredString;
use super::value::{Dict, Function, Value, shortened};
use super::{filters, functions, methods, ops, predicates, text};
use std::cmp::Ordering;
use std::sync::Arc;

impl Interpreter {
    pub(super) fn eval(&mut self, expr: &Expr) -> Result<Value> {
        self.eval_marked(expr).map(Value::plain)
    }

    /// Evaluates without removing the mark of [`Value::Safe`].
    pub(super) fn eval_marked(&mut self, expr: &Expr) -> Result<Value> {
        self.meter.steps(1)?;
        self.nested(|interpreter| interpreter.eval_here(expr))
    }

    fn eval_here(&mut self, expr: &Expr) -> Result<Value> {
        let meter = self.meter.clone();
        match expr {
            Expr::Constant(constant) => Ok(match constant {
                Constant::None => Value::None,
                Constant::Bool(value) => Value::Bool(*value),
                Constant::Int(value) => Value::Int(*value),
                Constant::Float(value) => Value::Float(*value),
                Constant::Str(text) => Value::Str(text.clone()),
            }),
            Expr::Name(name) => self.name(name),
            Expr::List(items) => Value::list(&meter, self.eval_all(items)?),
            Expr::Tuple(items) => Value::tuple(&meter, self.eval_all(items)?),
            Expr::Dict(entries) => {
                let mut dict = Dict::default();
                for (key, value) in entries {
                    dict.insert(&meter, self.eval(key)?, self.eval(value)?)?;
                }
                Ok(Value::dict(dict))
            }
            Expr::Signed(signs, operand) => {
                let value = self.eval(operand)?;
                signs.iter().try_fold(value, |value, sign| ops::signed(&value, *sign == Sign::Minus))
            }
            Expr::Arithmetic(first, rest) => {
                let mut value = self.eval_marked(first)?;
                for (operator, operand) in rest {
                    value = ops::arithmetic(&meter, *operator, value, self.eval_marked(operand)?)?;
                }
                Ok(value)
            }
            Expr::Concat(operands) => {
                let mut joined = MeteredString::new(&meter);
                for operand in operands {
                    text::write_str(&mut joined, &meter, &self.eval(operand)?)?;
                }
                Ok(Value::str(joined.finish()))
            }
            Expr::Compare(first, rest) => {
                let mut left = self.eval(first)?;
                for (comparison, operand) in rest {
                    let right = self.eval(operand)?;
                    if !self.holds(*comparison, &left, &right)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Ok(Value::Bool(true))
            }
            Expr::Not { odd, operand } => Ok(Value::Bool(self.eval(operand)?.is_true() != *odd)),
            Expr::And(operands) => self.first_that(operands, false),
            Expr::Or(operands) => self.first_that(operands, true),
            Expr::Conditional { branches, otherwise } => {
                for (value, condition) in branches {
                    if self.eval(condition)?.is_true() {
                        return self.eval_marked(value);
                    }
                }
                otherwise.as_ref().map_or(Ok(Value::UNDEFINED), |otherwise| self.eval_marked(otherwise))
            }
            Expr::Postfix(base, chain) => {
                let value = self.eval(base)?;
                self.follow(value, chain)
            }
        }
    }

    fn eval_all(&mut self, exprs: &[Expr]) -> Result<Vec<Value>> {
        exprs.iter().map(|expr| self.eval(expr)).collect()
    }

    /// The first operand whose truth is `wanted`, or else the last one.
    fn first_that(&mut self, operands: &[Expr], wanted: bool) -> Result<Value> {
        let mut value = Value::UNDEFINED;
        for operand in operands {
            value = self.eval(operand)?;
            if value.is_true() == wanted {
                break;
            }
        }
        Ok(value)
    }

    fn name(&self, name: &Arc<str>) -> Result<Value> {
        Ok(match self.variable(name)? {
            Some(value) => value,
            None => Function::named(name).map_or_else(|| Value::Undefined(Some(name.clone())), Value::Function),
        })
    }

    pub(super) fn holds(&self, comparison: Comparison, a: &Value, b: &Value) -> Result<bool> {
        let meter = &self.meter;
        let ordered = |wanted: fn(Ordering) -> bool| Ok(ops::compare(meter, a, b)?.is_some_and(wanted));
        match comparison {
            Comparison::Eq => ops::equal(meter, a, b),
            Comparison::Ne => Ok(!ops::equal(meter, a, b)?),
            Comparison::Lt => ordered(Ordering::is_lt),
            Comparison::Le => ordered(Ordering::is_le),
            Comparison::Gt => ordered(Ordering::is_gt),
            Comparison::Ge => ordered(Ordering::is_ge),
            Comparison::In => ops::contains(meter, b, a),
            Comparison::NotIn => Ok(!ops::contains(meter, b, a)?),
        }
    }

    /// `value` followed by subscripts, calls, filters and tests.
    pub(super) fn follow(&mut self, mut value: Value, chain: &[Postfix]) -> Result<Value> {
        for step in chain {
            self.meter.steps(1)?;
            value = value.plain();
            value = match step {
                Postfix::Attribute(name) => self.attribute(&value, name)?,
                Postfix::Item(key) => {
                    let key = self.eval(key)?;
                    self.item(&value, &key)?
                }
                Postfix::Slice(parts) => {
                    let mut bounds = [None; 3];
                    for (bound, part) in bounds.iter_mut().zip(parts) {
                        let part = part.as_ref().map(|part| self.eval(part)).transpose()?;
                        *bound = super::args::optional_int("a slice", &part)?;
                    }
                    ops::slice(&self.meter, &value, bounds)?
                }
                Postfix::Call(arguments) => {
                    let arguments = self.arguments(arguments)?;
                    self.call(&value, arguments)?
                }
                Postfix::Filter(name, arguments) => {
                    let arguments = self.arguments(arguments)?;
                    filters::apply(self, name, value, arguments)?
                }
                Postfix::Test { name, arguments, negated } => {
                    let arguments = self.arguments(arguments)?;
                    Value::Bool(predicates::check(self, name, &value, arguments)? != *negated)
                }
            };
        }
        Ok(value)
    }

    /// `value.name`: a method, or else an item.
    pub(super) fn attribute(&self, value: &Value, name: &Arc<str>) -> Result<Value> {
        let undefined = || Ok(Value::Undefined(Some(name.clone())));
        value.check_defined()?;
        if name.starts_with("__") {
            return undefined();
        }
        if methods::has(value, name) {
            return value.method(name);
        }
        match value {
            Value::Dict(dict) => dict.get_str(&self.meter, name)?.cloned().map_or_else(undefined, Ok),
            Value::Namespace(id) => self.namespaces[*id].get(name).cloned().map_or_else(undefined, Ok),
            Value::Loop(id) => functions::loop_attribute(self, *id, name),
            Value::Macro(id) if &**name == "name" => Ok(Value::Str(self.macros[*id].definition.name.clone())),
            _ => undefined(),
        }
    }

    /// `value[key]`: an item, or else a method.
    pub(super) fn item(&self, value: &Value, key: &Value) -> Result<Value> {
        value.check_defined()?;
        if let Value::Dict(dict) = value
            && let Some(found) = dict.get(&self.meter, key)?
        {
            return Ok(found.clone());
        }
        if let Some(index) = key.as_int()
            && let Some(found) = ops::index(&self.meter, value, index)?
        {
            return Ok(found);
        }
        match key {
            Value::Str(name) if matches!(value, Value::Dict(_)) && !methods::has(value, name) => {
                Ok(Value::Undefined(Some(name.clone())))
            }
            Value::Str(name) => self.attribute(value, name),
            _ => Ok(Value::UNDEFINED),
        }
    }

    pub(super) fn call(&mut self, function: &Value, arguments: Arguments) -> Result<Value> {
        function.check_defined()?;
        self.meter.steps(1)?;
        match function {
            Value::Macro(id) => self.call_macro(*id, arguments),
            Value::Loop(id) => self.recurse(*id, arguments),
            Value::Function(function) => functions::call(self, *function, arguments),
            Value::Method(method) => methods::call(self, &method.0, &method.1, arguments),
            _ => failed(format!("a value of type '{}' cannot be called", function.type_name())),
        }
    }

    /// The value at an `attribute` of `map`, `sort` and similar filters: `a.b.0`.
    pub(super) fn path(&self, value: &Value, path: &Value) -> Result<Value> {
        let Value::Str(path) = path else { return self.item(value, path) };
        let mut value = value.clone();
        for part in path.split('.') {
            self.meter.steps(1)?;
            let key = match part.parse::<i128>() {
                Ok(index) if part.bytes().all(|digit| digit.is_ascii_digit()) => Value::Int(index),
                _ => Value::new_str(&self.meter, part)?,
            };
            value = self.item(&value, &key)?;
        }
        Ok(value)
    }
}

impl Function {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "range" => Self::Range,
            "dict" => Self::Dict,
            "namespace" => Self::Namespace,
            "raise_exception" => Self::RaiseException,
            "strftime_now" => Self::StrftimeNow,
            _ => return None,
        })
    }
}

/// The error for an unknown `filter` or `test`.
pub(super) fn unknown<T>(what: &str, name: &str) -> Result<T> {
    failed(format!("unknown {what} `{}`", shortened(name)))
}
