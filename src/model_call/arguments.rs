//! The arguments of a table function: SQL in, the input and the named arguments out, still as SQL.

use std::collections::HashMap;

use datafusion::common::{Result, plan_err};
use datafusion::sql::sqlparser::ast::{self, FunctionArg, FunctionArgExpr, TableFactor};

/// The input comes first and without a name; all others have one.
pub struct Arguments {
    function: &'static str,
    input: Option<ast::Expr>,
    pub named: HashMap<String, ast::Expr>,
}

impl Arguments {
    pub fn new(function: &'static str, args: Vec<FunctionArg>) -> Result<Self> {
        let mut arguments = Arguments { function, input: None, named: HashMap::new() };
        for (position, arg) in args.into_iter().enumerate() {
            match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) if position == 0 => arguments.input = Some(expr),
                FunctionArg::Named { name, arg: FunctionArgExpr::Expr(expr), .. } => {
                    let name = name.value.to_lowercase();
                    if arguments.named.insert(name.clone(), expr).is_some() {
                        return plan_err!("{function} has the argument '{name}' twice");
                    }
                }
                other => {
                    return plan_err!(
                        "{function}: '{other}' is no argument; after the input every argument is named: name => …"
                    );
                }
            }
        }
        Ok(arguments)
    }

    /// The input as a relation.
    pub fn take_input(&mut self) -> Result<TableFactor> {
        match self.input.take() {
            Some(ast::Expr::Subquery(subquery)) => Ok(derived(subquery)),
            Some(other) => plan_err!(
                "{} takes its input first, as (SELECT …), TABLE name or a bare name, not {other}",
                self.function
            ),
            None => plan_err!("{} needs an input: (SELECT …), TABLE name or a bare name", self.function),
        }
    }

    /// A named argument that is a relation.
    pub fn take_relation(&mut self, argument: &str) -> Result<Option<TableFactor>> {
        match self.named.remove(argument) {
            Some(ast::Expr::Subquery(subquery)) => Ok(Some(derived(subquery))),
            Some(other) => plan_err!("{}: {argument} => {other} must be (SELECT …)", self.function),
            None => Ok(None),
        }
    }
}

fn derived(subquery: Box<ast::Query>) -> TableFactor {
    TableFactor::Derived { lateral: false, subquery, alias: None, sample: None }
}
