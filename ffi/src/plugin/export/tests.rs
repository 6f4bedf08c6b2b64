//! Every function of every table stops a panic: called as the core would, each answers with ncclInternalError.

use std::mem::MaybeUninit;

use super::*;
use crate::plugin::abi::{INTERNAL_ERROR, NcclResult};
use crate::plugin::boundary::tests::EVERY_CALL_PANICS;

/// A function of a table, whatever it takes.
trait Call {
    fn with_nothing(self) -> NcclResult;
}

macro_rules! takes {
    ($($argument:ident)*) => {
        impl<$($argument),*> Call for unsafe extern "C" fn($($argument),*) -> NcclResult {
            fn with_nothing(self) -> NcclResult {
                // SAFETY: the tables' arguments are numbers, pointers and optional functions, all of which may be zero; the
                // functions look at none of them before the guard, which panics.
                unsafe { self($(MaybeUninit::<$argument>::zeroed().assume_init()),*) }
            }
        }
    };
}

takes!(A);
takes!(A B);
takes!(A B C);
takes!(A B C D);
takes!(A B C D E);
takes!(A B C D E F);
takes!(A B C D E F G);
takes!(A B C D E F G H);
takes!(A B C D E F G H I);

macro_rules! stop_panics {
    ($($table:ident: $($function:ident)*;)*) => {
        $($(
            if let Some(function) = $table.$function {
                let what = concat!(stringify!($table), ".", stringify!($function));
                assert_eq!(function.with_nothing(), INTERNAL_ERROR, "{what}");
            }
        )*)*
    };
}

#[test]
fn a_panic_in_any_function_of_any_version_is_an_internal_error() {
    EVERY_CALL_PANICS.set(true);
    stop_panics! {
        ncclNetPlugin_v8: init devices get_properties listen connect accept reg_mr reg_mr_dma_buf dereg_mr isend irecv iflush
            test close_send close_recv close_listen get_device_mr irecv_consumed;
        ncclNetPlugin_v9: init devices get_properties listen connect accept reg_mr reg_mr_dma_buf dereg_mr isend irecv iflush
            test close_send close_recv close_listen get_device_mr irecv_consumed make_virtual_device;
        ncclNetPlugin_v10: init devices get_properties listen connect accept reg_mr reg_mr_dma_buf dereg_mr isend irecv iflush
            test close_send close_recv close_listen get_device_mr irecv_consumed make_virtual_device;
        ncclNetPlugin_v11: init devices get_properties listen connect accept reg_mr reg_mr_dma_buf dereg_mr isend irecv iflush
            test close_send close_recv close_listen get_device_mr irecv_consumed make_virtual_device finalize
            set_net_attributes;
        ncclNetPlugin_v12: init devices get_properties listen connect accept reg_mr reg_mr_dma_buf dereg_mr isend irecv iflush
            test close_send close_recv close_listen get_device_mr irecv_consumed make_virtual_device finalize
            set_net_attributes;
        ncclTunerPlugin_v2: init get_coll_info destroy;
        ncclTunerPlugin_v3: init get_coll_info destroy;
        ncclTunerPlugin_v4: init get_coll_info destroy;
        ncclTunerPlugin_v5: init get_coll_info finalize;
        ncclTunerPlugin_v6: init get_coll_info finalize get_chunk_size;
    }
}
