//! `CREATE FUNCTION name(a TYPE) RETURNS TYPE RETURN expression`: a user's own function in SQL, inlined into plans.
//! Bodies are inlined when they are defined, so a plan's calls are replaced in one pass and recursion cannot arise.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, exec_err, plan_datafusion_err, plan_err};
use datafusion::config::ConfigOptions;
use datafusion::execution::SessionState;
use datafusion::execution::context::{FunctionFactory, RegisterFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    ColumnarValue, CreateFunction, Expr, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility, cast,
};
use datafusion::optimizer::AnalyzerRule;

/// The largest body, in expression nodes, after everything in it is inlined.
const MAX_BODY_NODES: usize = 20_000;

/// Makes macros of CREATE FUNCTION statements.
#[derive(Debug)]
pub struct MacroFactory;

#[async_trait]
impl FunctionFactory for MacroFactory {
    async fn create(&self, _state: &SessionState, statement: CreateFunction) -> Result<RegisterFunction> {
        let name = statement.name.to_lowercase();
        if let Some(language) = &statement.params.language
            && !language.value.eq_ignore_ascii_case("sql")
        {
            return plan_err!(
                "CREATE FUNCTION {name}: LANGUAGE {language} is not supported; write RETURN <expression>"
            );
        }
        let body = statement
            .params
            .function_body
            .ok_or_else(|| plan_datafusion_err!("CREATE FUNCTION {name} has no body; write RETURN <expression>"))?;
        let return_type =
            statement.return_type.ok_or_else(|| plan_datafusion_err!("CREATE FUNCTION {name} needs RETURNS <type>"))?;
        let arguments: Vec<DataType> =
            statement.args.unwrap_or_default().into_iter().map(|arg| arg.data_type).collect();
        let body = cast(inline(body)?.data, return_type.clone());
        let (mut nodes, mut volatility) = (0, Volatility::Immutable);
        body.apply(|expr| {
            nodes += 1;
            match expr {
                Expr::AggregateFunction(_) | Expr::WindowFunction(_) => {
                    return plan_err!("CREATE FUNCTION {name}: aggregates and windows cannot stand in its body");
                }
                Expr::ScalarFunction(function) => {
                    volatility = volatility.max(function.func.signature().volatility);
                }
                _ => {}
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        if nodes > MAX_BODY_NODES {
            return plan_err!(
                "CREATE FUNCTION {name}: with the functions it uses its body has {nodes} nodes; the limit is {MAX_BODY_NODES}"
            );
        }
        let signature = match arguments.is_empty() {
            true => Signature::nullary(volatility),
            false => Signature::exact(arguments, volatility),
        };
        Ok(RegisterFunction::Scalar(Arc::new(ScalarUDF::from(Macro { name, signature, return_type, body }))))
    }
}

/// A user's function: an expression with `$1`, `$2`, … for its arguments.
struct Macro {
    name: String,
    signature: Signature,
    return_type: DataType,
    body: Expr,
}

impl Macro {
    fn inlined(&self, arguments: &[Expr]) -> Result<Expr> {
        let argument = |id: &str| id.trim_start_matches('$').parse::<usize>().ok().and_then(|n| arguments.get(n - 1));
        self.body
            .clone()
            .transform(|expr| match &expr {
                Expr::Placeholder(placeholder) => match argument(&placeholder.id) {
                    Some(argument) => Ok(Transformed::new(argument.clone(), true, TreeNodeRecursion::Jump)),
                    None => plan_err!("{} has no argument {}", self.name, placeholder.id),
                },
                _ => Ok(Transformed::no(expr)),
            })
            .data()
    }
}

impl fmt::Debug for Macro {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Macro({}: {})", self.name, self.body)
    }
}

impl PartialEq for Macro {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.body == other.body
    }
}

impl Eq for Macro {}

impl Hash for Macro {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        self.body.hash(state);
    }
}

impl ScalarUDFImpl for Macro {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.return_type.clone())
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("the function {} was not inlined; open the workspace with seedmill to use it", self.name)
    }
}

/// The expression with every macro call replaced by its body.
fn inline(expr: Expr) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| match &expr {
        Expr::ScalarFunction(call) => {
            match (call.func.inner().as_ref() as &dyn std::any::Any).downcast_ref::<Macro>() {
                Some(body) => Ok(Transformed::yes(body.inlined(&call.args)?)),
                None => Ok(Transformed::no(expr)),
            }
        }
        _ => Ok(Transformed::no(expr)),
    })
}

/// Replaces macro calls in plans.
#[derive(Debug)]
pub struct InlineMacros;

impl AnalyzerRule for InlineMacros {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| {
            let names = NamePreserver::new(&plan);
            let inlined = plan.map_expressions(|expr| {
                let saved = names.save(&expr);
                Ok(inline(expr)?.update_data(|expr| saved.restore(expr)))
            })?;
            if inlined.transformed { inlined.map_data(LogicalPlan::recompute_schema) } else { Ok(inlined) }
        })
        .data()
    }

    fn name(&self) -> &str {
        "inline_macros"
    }
}
