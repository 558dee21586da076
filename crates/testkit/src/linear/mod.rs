//! A checker of concurrent histories: is there an order of all operations, each between its call and its return,
//! that one object with versions would have produced?
