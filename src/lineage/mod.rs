//! What a table's rows may be used for: the split they come from and the licence they stand under.
//! Table providers carry these marks; the guard reads them in plans, publishing writes them down.

mod licence;
mod mark;
mod split;

pub use licence::{Licence, Permission, Target};
pub use mark::{Lineage, MarkedTable, Origin, lineage_of};
pub use split::{SPLIT_KEY, Split};
