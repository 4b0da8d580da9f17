//! Runs statements.

use super::super::date::Clock;
use super::Limits;
use super::args::Arguments;
use super::ast::{Block, CallArguments, Expr, For, Macro, Postfix, Statement, StatementKind, Target};
use super::error::{Cause, Error, Result, failed};
use super::meter::Meter;
use super::text;
use super::value::{Seq, Value, shortened};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// Maximum nesting of blocks, expressions and calls while a template runs, similar to Python's. The thread's stack is sized for
/// it.
const DEPTH_LIMIT: usize = 1500;
/// Steps that a scope, a loop or a macro costs, for the memory it takes.
const STEPS_OF_OBJECT: usize = 6;

/// Control flow after a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

/// Variables, and the scope around them.
#[derive(Debug, Default)]
struct Scope {
    variables: HashMap<Arc<str>, Value>,
    parent: Option<usize>,
    /// A macro was defined here and may still read variables of this scope.
    captured: bool,
}

/// A loop that is running or has ended.
pub(super) struct LoopState {
    pub(super) items: Rc<Seq>,
    pub(super) index: usize,
    pub(super) depth: usize,
    /// The arguments of the last `changed`.
    pub(super) changed: Option<Vec<Value>>,
    statement: Arc<For>,
    /// The scope around the loop, while it runs.
    around: Option<usize>,
}

pub(super) struct MacroState {
    pub(super) definition: Arc<Macro>,
    scope: usize,
}

pub(super) struct Interpreter {
    pub(super) meter: Rc<Meter>,
    pub(super) clock: Clock,
    pub(super) namespaces: Vec<HashMap<Arc<str>, Value>>,
    pub(super) loops: Vec<LoopState>,
    pub(super) macros: Vec<MacroState>,
    scopes: Vec<Scope>,
    scope: usize,
    /// The output, followed by text that is being captured.
    out: String,
    output_limit: usize,
    depth: usize,
}

/// Renders `template` with `variables`.
pub(super) fn run(
    template: &Block,
    meter: Rc<Meter>,
    variables: HashMap<Arc<str>, Value>,
    clock: Clock,
    limits: &Limits,
) -> Result<String> {
    let mut interpreter = Interpreter {
        meter,
        clock,
        namespaces: Vec::new(),
        loops: Vec::new(),
        macros: Vec::new(),
        scopes: vec![Scope { variables, ..Scope::default() }],
        scope: 0,
        out: String::new(),
        output_limit: limits.output_bytes,
        depth: 0,
    };
    interpreter.block(template)?;
    Ok(interpreter.out)
}

impl Interpreter {
    /// Runs `work` one level deeper.
    pub(super) fn nested<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == DEPTH_LIMIT {
            return failed("macros, loops or blocks are nested too deeply: a macro may call itself without end");
        }
        self.depth += 1;
        let result = work(self);
        self.depth -= 1;
        result
    }

    /// Makes a namespace of `entries`.
    pub(super) fn new_namespace(&mut self, entries: &[(Value, Value)]) -> Result<Value> {
        self.meter.steps(STEPS_OF_OBJECT)?;
        self.namespaces.push(HashMap::new());
        let namespace = self.namespaces.len() - 1;
        for (name, value) in entries {
            let Value::Str(name) = name else { return failed("the names of a namespace must be strings") };
            self.set_attribute(namespace, name, value.clone())?;
        }
        Ok(Value::Namespace(namespace))
    }

    fn set_attribute(&mut self, namespace: usize, name: &Arc<str>, value: Value) -> Result<()> {
        if name.starts_with('_') {
            return failed(format!(
                "a namespace cannot have `{}`: names that begin with `_` are private",
                shortened(name)
            ));
        }
        self.meter.slots(2)?;
        self.namespaces[namespace].insert(name.clone(), value);
        Ok(())
    }

    /// The variable `name`, if there is one.
    pub(super) fn variable(&self, name: &str) -> Result<Option<Value>> {
        let mut scope = Some(self.scope);
        while let Some(index) = scope {
            self.meter.bytes(8)?;
            if let Some(value) = self.scopes[index].variables.get(name) {
                return Ok(Some(value.clone()));
            }
            scope = self.scopes[index].parent;
        }
        Ok(None)
    }

    fn set_variable(&mut self, name: &Arc<str>, value: Value) -> Result<()> {
        self.meter.slots(2)?;
        self.scopes[self.scope].variables.insert(name.clone(), value);
        Ok(())
    }

    /// Runs `work` in a new scope within `parent`.
    fn scoped<T>(&mut self, parent: usize, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.meter.steps(STEPS_OF_OBJECT)?;
        let outer = self.scope;
        self.scope = self.scopes.len();
        self.scopes.push(Scope { parent: Some(parent), ..Scope::default() });
        let result = work(self);
        // Scopes that a macro captured stay; all later ones are gone by now.
        if !self.scopes[self.scope].captured && self.scope + 1 == self.scopes.len() {
            self.scopes.pop();
        }
        self.scope = outer;
        result
    }

    fn write(&mut self, piece: &str) -> Result<()> {
        self.meter.bytes(piece.len())?;
        if self.out.len() + piece.len() > self.output_limit {
            return Err(Cause::OutputBytes.into());
        }
        self.out.push_str(piece);
        Ok(())
    }

    /// Captures what `work` writes, instead of adding it to the output.
    fn captured(&mut self, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<Value> {
        let start = self.out.len();
        let result = work(self);
        let text = self.out.split_off(start);
        result?;
        self.meter.bytes(text.len())?;
        Ok(Value::str(text))
    }

    fn block(&mut self, block: &Block) -> Result<Flow> {
        self.nested(|interpreter| {
            for statement in &block.0 {
                let flow = interpreter.statement(statement).map_err(|error| match error.line {
                    0 => Error { line: statement.line, ..error },
                    _ => error,
                })?;
                if flow != Flow::Next {
                    return Ok(flow);
                }
            }
            Ok(Flow::Next)
        })
    }

    fn statement(&mut self, statement: &Statement) -> Result<Flow> {
        self.meter.steps(1)?;
        match &statement.kind {
            StatementKind::Text(text) => self.write(text)?,
            StatementKind::Print(value) => {
                let value = self.eval(value)?;
                let text = text::str(&self.meter.clone(), &value)?;
                self.write(&text)?;
            }
            StatementKind::If { branches, otherwise } => {
                for (condition, block) in branches {
                    if self.eval(condition)?.is_true() {
                        return self.block(block);
                    }
                }
                return self.block(otherwise);
            }
            StatementKind::For(statement) => {
                let iterable = self.eval(&statement.iterable)?;
                self.run_loop(statement, &iterable, self.scope, 0)?;
            }
            StatementKind::Set { target, value } => {
                let value = self.eval_marked(value)?;
                self.assign(target, value)?;
            }
            StatementKind::SetBlock { target, filters, body } => {
                let value = self.filtered(filters, body)?;
                self.assign(target, value)?;
            }
            StatementKind::Filter { filters, body } => {
                let value = self.filtered(filters, body)?.plain();
                let text = text::str(&self.meter.clone(), &value)?;
                self.write(&text)?;
            }
            StatementKind::With { targets, body } => {
                let values: Vec<Value> = targets.iter().map(|(_, value)| self.eval(value)).collect::<Result<_>>()?;
                return self.scoped(self.scope, |interpreter| {
                    for ((target, _), value) in targets.iter().zip(values) {
                        interpreter.assign(target, value)?;
                    }
                    interpreter.block(body)
                });
            }
            StatementKind::Scope(body) => return self.scoped(self.scope, |interpreter| interpreter.block(body)),
            StatementKind::Macro(definition) => {
                let made = self.make_macro(definition)?;
                self.set_variable(&definition.name, made)?;
            }
            StatementKind::Call { call, caller } => {
                let caller = self.make_macro(caller)?;
                let value = self.call_with_caller(call, caller)?;
                let text = text::str(&self.meter.clone(), &value)?;
                self.write(&text)?;
            }
            StatementKind::Break => return Ok(Flow::Break),
            StatementKind::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    /// The text of `body` after filters.
    fn filtered(&mut self, filters: &[Postfix], body: &Block) -> Result<Value> {
        let text = self.captured(|interpreter| {
            interpreter.scoped(interpreter.scope, |interpreter| interpreter.block(body)).map(|_| ())
        })?;
        self.follow(text, filters)
    }

    fn assign(&mut self, target: &Target, value: Value) -> Result<()> {
        match target {
            Target::Name(name) => self.set_variable(name, value),
            Target::Attribute(name, attribute) => match self.variable(name)? {
                Some(Value::Namespace(namespace)) => self.set_attribute(namespace, attribute, value),
                _ => failed(format!("`{}` is not a namespace, so its attributes cannot be set", shortened(name))),
            },
            Target::Tuple(targets) => {
                let values = value.iterate(&self.meter)?;
                if values.len() != targets.len() {
                    let (found, expected) = (values.len(), targets.len());
                    return failed(format!("{found} values cannot be assigned to {expected} names"));
                }
                targets.iter().zip(values).try_for_each(|(target, value)| self.assign(target, value))
            }
        }
    }

    fn run_loop(&mut self, statement: &Arc<For>, iterable: &Value, around: usize, depth: usize) -> Result<()> {
        let meter = self.meter.clone();
        meter.steps(STEPS_OF_OBJECT)?;
        let mut items = iterable.iterate(&meter)?;
        if let Some(condition) = &statement.condition {
            let mut kept = Vec::new();
            for item in items {
                let keep = self.scoped(around, |interpreter| {
                    interpreter.assign(&statement.target, item.clone())?;
                    Ok(interpreter.eval(condition)?.is_true())
                })?;
                if keep {
                    kept.push(item);
                }
            }
            items = kept;
        }
        let Value::Seq(items) = Value::list(&meter, items)? else { return Ok(()) };
        if items.items.is_empty() {
            return self.scoped(around, |interpreter| interpreter.block(&statement.otherwise)).map(|_| ());
        }
        let id = self.loops.len();
        let state = LoopState {
            items: items.clone(),
            index: 0,
            depth,
            changed: None,
            statement: statement.clone(),
            around: Some(around),
        };
        self.loops.push(state);
        let name: Arc<str> = "loop".into();
        for (index, item) in items.items.iter().enumerate() {
            self.loops[id].index = index;
            let flow = self.scoped(around, |interpreter| {
                interpreter.set_variable(&name, Value::Loop(id))?;
                interpreter.assign(&statement.target, item.clone())?;
                interpreter.block(&statement.body)
            })?;
            if flow == Flow::Break {
                break;
            }
        }
        self.loops[id].around = None;
        Ok(())
    }

    /// `loop(items)` in a recursive loop.
    pub(super) fn recurse(&mut self, id: usize, arguments: Arguments) -> Result<Value> {
        let [items] = arguments.bind("loop", ["iterable"], 1)?;
        let state = &self.loops[id];
        let (statement, depth) = (state.statement.clone(), state.depth + 1);
        match (state.around, statement.recursive, items) {
            (Some(around), true, Some(items)) => self.nested(|interpreter| {
                interpreter.captured(|interpreter| interpreter.run_loop(&statement, &items, around, depth))
            }),
            _ => failed("a loop can be called only while it runs, and only with `recursive`"),
        }
    }

    fn make_macro(&mut self, definition: &Arc<Macro>) -> Result<Value> {
        self.meter.steps(STEPS_OF_OBJECT)?;
        let mut scope = Some(self.scope);
        while let Some(index) = scope.filter(|index| !self.scopes[*index].captured) {
            self.scopes[index].captured = true;
            scope = self.scopes[index].parent;
        }
        self.macros.push(MacroState { definition: definition.clone(), scope: self.scope });
        Ok(Value::Macro(self.macros.len() - 1))
    }

    /// `{% call macro(..) %}`, whose body is `caller`.
    fn call_with_caller(&mut self, call: &Expr, caller: Value) -> Result<Value> {
        let Expr::Postfix(base, chain) = call else { return failed("`call` needs the call of a macro") };
        let Some((Postfix::Call(arguments), before)) = chain.split_last() else {
            return failed("`call` needs the call of a macro");
        };
        let function = self.eval(base)?;
        let function = self.follow(function, before)?;
        let mut arguments = self.arguments(arguments)?;
        arguments.named.push(("caller".into(), caller));
        self.call(&function, arguments)
    }

    pub(super) fn arguments(&mut self, given: &CallArguments) -> Result<Arguments> {
        let mut arguments = Arguments::default();
        self.meter.slots(given.positional.len() + 2 * given.named.len())?;
        for value in &given.positional {
            arguments.positional.push(self.eval(value)?);
        }
        if let Some(rest) = &given.rest {
            let rest = self.eval(rest)?;
            arguments.positional.append(&mut rest.iterate(&self.meter)?);
        }
        for (name, value) in &given.named {
            arguments.named.push((name.clone(), self.eval(value)?));
        }
        if let Some(rest) = &given.named_rest {
            let Value::Dict(dict) = self.eval(rest)? else { return failed("`**` needs a mapping") };
            self.meter.slots(2 * dict.entries().len())?;
            for (name, value) in dict.entries() {
                let Value::Str(name) = name else { return failed("the names of arguments must be strings") };
                arguments.named.push((name.clone(), value.clone()));
            }
        }
        Ok(arguments)
    }

    pub(super) fn call_macro(&mut self, id: usize, arguments: Arguments) -> Result<Value> {
        let MacroState { definition, scope } = &self.macros[id];
        let (definition, scope) = (definition.clone(), *scope);
        self.nested(|interpreter| {
            interpreter.captured(|interpreter| {
                interpreter.scoped(scope, |interpreter| {
                    interpreter.bind_parameters(&definition, arguments)?;
                    interpreter.block(&definition.body).map(|_| ())
                })
            })
        })
    }

    /// Arguments of a macro without a parameter are in `varargs` and `kwargs`.
    fn bind_parameters(&mut self, definition: &Macro, arguments: Arguments) -> Result<()> {
        let meter = self.meter.clone();
        let mut positional = arguments.positional.into_iter();
        let mut named = arguments.named;
        for (name, default) in &definition.parameters {
            meter.steps(named.len() / 8)?;
            let by_name = named.iter().position(|(other, _)| other == name).map(|index| named.swap_remove(index).1);
            let value = match (positional.next(), by_name, default) {
                (Some(_), Some(_), _) => {
                    return failed(format!(
                        "`{}` got two values for `{}`",
                        shortened(&definition.name),
                        shortened(name)
                    ));
                }
                (Some(value), None, _) | (None, Some(value), _) => value,
                (None, None, Some(default)) => self.eval(default)?,
                (None, None, None) => Value::Undefined(Some(name.clone())),
            };
            self.set_variable(name, value)?;
        }
        let rest: Vec<Value> = positional.collect();
        self.set_variable(&"varargs".into(), Value::tuple(&meter, rest)?)?;
        let mut extra = super::value::Dict::default();
        for (name, value) in named {
            match &*name {
                "caller" => self.set_variable(&name, value)?,
                _ => extra.insert(&meter, Value::Str(name), value)?,
            }
        }
        self.set_variable(&"kwargs".into(), Value::dict(extra))
    }
}
