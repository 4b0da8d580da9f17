//! A parsed template.
//!
//! Chains (`a + b + c`, `x | f | g`, `not not x`, `elif`) are lists, so that only what is nested in brackets or blocks is
//! nested here, and the parser limits that.

use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Block(pub(super) Vec<Statement>);

#[derive(Debug)]
pub(super) struct Statement {
    pub(super) line: usize,
    pub(super) kind: StatementKind,
}

#[derive(Debug)]
pub(super) enum StatementKind {
    Text(String),
    Print(Expr),
    If {
        branches: Vec<(Expr, Block)>,
        otherwise: Block,
    },
    For(Arc<For>),
    Set {
        target: Target,
        value: Expr,
    },
    SetBlock {
        target: Target,
        filters: Vec<Postfix>,
        body: Block,
    },
    With {
        targets: Vec<(Target, Expr)>,
        body: Block,
    },
    /// A block with a new scope: `{% block %}`, and transformers' `{% generation %}`, which marks the assistant's text for training.
    Scope(Block),
    Filter {
        filters: Vec<Postfix>,
        body: Block,
    },
    Macro(Arc<Macro>),
    Call {
        call: Expr,
        caller: Arc<Macro>,
    },
    Break,
    Continue,
}

#[derive(Debug)]
pub(super) struct For {
    pub(super) target: Target,
    pub(super) iterable: Expr,
    pub(super) condition: Option<Expr>,
    pub(super) recursive: bool,
    pub(super) body: Block,
    pub(super) otherwise: Block,
}

#[derive(Debug)]
pub(super) struct Macro {
    pub(super) name: Arc<str>,
    pub(super) parameters: Vec<(Arc<str>, Option<Expr>)>,
    pub(super) body: Block,
}

/// The target of an assignment.
#[derive(Debug)]
pub(super) enum Target {
    Name(Arc<str>),
    Attribute(Arc<str>, Arc<str>),
    Tuple(Vec<Target>),
}

#[derive(Debug)]
pub(super) enum Expr {
    Constant(Constant),
    Name(Arc<str>),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    /// Signs in the order in which they apply.
    Signed(Vec<Sign>, Box<Expr>),
    Arithmetic(Box<Expr>, Vec<(Operator, Expr)>),
    /// `~`.
    Concat(Vec<Expr>),
    Compare(Box<Expr>, Vec<(Comparison, Expr)>),
    /// An odd number of `not`, or an even one.
    Not {
        odd: bool,
        operand: Box<Expr>,
    },
    And(Vec<Expr>),
    Or(Vec<Expr>),
    /// `value if condition else value if condition else otherwise`.
    Conditional {
        branches: Vec<(Expr, Expr)>,
        otherwise: Option<Box<Expr>>,
    },
    Postfix(Box<Expr>, Vec<Postfix>),
}

#[derive(Debug)]
pub(super) enum Constant {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Arc<str>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    Plus,
    Minus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Mod,
    Pow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
}

/// A suffix of a value: subscript, call, filter or test.
#[derive(Debug)]
pub(super) enum Postfix {
    Attribute(Arc<str>),
    Item(Expr),
    Slice([Option<Expr>; 3]),
    Call(CallArguments),
    Filter(Arc<str>, CallArguments),
    Test { name: Arc<str>, arguments: CallArguments, negated: bool },
}

#[derive(Debug, Default)]
pub(super) struct CallArguments {
    pub(super) positional: Vec<Expr>,
    pub(super) named: Vec<(Arc<str>, Expr)>,
    /// `*arguments`.
    pub(super) rest: Option<Box<Expr>>,
    /// `**arguments`.
    pub(super) named_rest: Option<Box<Expr>>,
}
