# HLO text has long lines.
# ruff: noqa: E501
import json
import subprocess
import sys

import pytest

from vitjax.planning.hlo import Program

# Compiled for eight devices: a collective of each kind with known size, in a loop of three runs and outside.
COLLECTIVES = """
import functools, json
import jax, jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec as P
from vitjax.planning.hlo import Program

mesh = jax.make_mesh((2, 4), ('a', 'b'), axis_types=(AxisType.Auto,) * 2)
ring = [(i, (i + 1) % 4) for i in range(4)]
functions = {
    'all-reduce': lambda x: jax.lax.psum(x, 'b'),
    'all-gather': lambda x: jax.lax.all_gather(x, 'b'),
    'reduce-scatter': lambda x: jax.lax.psum_scatter(x, 'b', tiled=True),
    'all-to-all': lambda x: jax.lax.all_to_all(x, 'b', 0, 0),
    'collective-permute': lambda x: jax.lax.ppermute(x, 'b', ring),
}
found = {}
for kind, function in functions.items():
    def once(x):
        return function(x).sum()
    def loop(x):
        return jax.lax.scan(lambda x, _: (x * 2 + once(jnp.sin(x)), None), x, length=3)[0]
    for name, f in (('once', once), ('loop', loop)):
        sharded = jax.shard_map(f, mesh=mesh, in_specs=P(('a', 'b')), out_specs=P(('a', 'b'))
            if name == 'loop' else P(), check_vma=False)
        compiled = jax.jit(sharded).lower(jax.ShapeDtypeStruct((32, 128), jnp.float32)).compile()
        program = Program(compiled.as_text())
        found[f'{kind} {name}'] = [program.collective_bytes(), program.unknown_loops]
        for islands in ((8, 4, 2, 1), (3, 6)):
            found[f'{kind} {name}'].append([program.network_bytes(size) for size in islands])
print(json.dumps(found))
"""


@pytest.fixture(scope='module')
def found(environment):
    result = subprocess.run(
        [sys.executable, '-c', COLLECTIVES],
        capture_output=True,
        text=True,
        env=environment(8),
        check=True,
    )
    return json.loads(result.stdout)


SHARE = 4 * 128 * 4  # bytes of a device's [4, 128] float32


@pytest.mark.slow
@pytest.mark.parametrize(
    ('kind', 'sent'),
    [
        ('all-reduce', 2 * 3 / 4 * SHARE),
        ('all-gather', 3 * SHARE),
        ('reduce-scatter', 3 / 4 * SHARE),
        ('all-to-all', 3 / 4 * SHARE),
        ('collective-permute', SHARE),
    ],
)
def test_collective_bytes_of_compiled_programs(found, kind, sent):
    assert found[f'{kind} once'][:2] == [{kind: sent}, []]
    assert found[f'{kind} loop'][:2] == [{kind: 3 * sent}, []]


@pytest.mark.parametrize(
    ('kind', 'share'),
    [
        *(('all-reduce', 1 / 2), ('all-gather', 1 / 2), ('collective-permute', 1 / 2)),
        ('all-to-all', 2 / 3),
    ],
)
def test_network_bytes_between_islands(found, kind, share):
    """Groups are rings of devices 0 to 3 and 4 to 7; with islands of two, every second link leaves one."""
    (sent,) = found[f'{kind} once'][0].values()
    assert found[f'{kind} once'][2] == [0, 0, share * sent, sent]
    assert found[f'{kind} loop'][2] == [0, 0, 3 * share * sent, 3 * sent]


def test_network_bytes_if_islands_split_only_some_groups(found):
    (sent,) = found['all-reduce once'][0].values()
    # With islands of three, both groups span two islands; with islands of six, the first is in one.
    assert found['all-reduce once'][3] == [2 / 4 * sent, 1 / 4 * sent]


# HLO of a TPU: a loop whose trip count follows from its condition, an all-gather in two parts with the same
# channel, a reduce-scatter made of an all-reduce, and arrays in the faster memory, S(1).
TPU = """
HloModule step, is_scheduled=true, num_partitions=4

%start (param_0.1: bf16[64,8]) -> (bf16[64,8], bf16[256,8], u32[]) {
  %param_0.1 = bf16[64,8]{1,0:T(8,128)(2,1)} parameter(0)
  %all-gather.1 = bf16[256,8]{1,0:T(8,128)(2,1)} all-gather(%param_0.1), channel_id=7, replica_groups={}
  ROOT %custom-call.1 = (bf16[64,8]{1,0:T(8,128)}, /*index=1*/bf16[256,8]{1,0:S(1)}, u32[]{:S(2)}) custom-call(%all-gather.1), custom_call_target="AsyncCollectiveStart"
}

%done (param_0.2: bf16[64,8]) -> bf16[256,8] {
  %param_0.2 = bf16[64,8]{1,0:T(8,128)(2,1)} parameter(0)
  ROOT %all-gather.2 = bf16[256,8]{1,0:T(8,128)(2,1)} all-gather(%param_0.2), channel_id=7, replica_groups={}
}

%add (x.1: f32[], y.1: f32[]) -> f32[] {
  %x.1 = f32[]{:T(128)} parameter(0)
  %y.1 = f32[]{:T(128)} parameter(1)
  ROOT %sum.1 = f32[]{:T(128)} add(%x.1, %y.1)
}

%all-reduce-scatter.3 (input.3: f32[16,8]) -> f32[4,8] {
  %input.3 = f32[16,8]{1,0:T(8,128)} parameter(0)
  %all-reduce.3 = f32[16,8]{1,0:T(8,128)} all-reduce(%input.3), channel_id=9, replica_groups={{0,1,2,3}}, to_apply=%add
  %zero.3 = u32[] constant(0)
  ROOT %dynamic-slice.3 = f32[4,8]{1,0:T(8,128)} dynamic-slice(%all-reduce.3, %zero.3, %zero.3), dynamic_slice_sizes={4,8}
}

%slice_and_update (stack.4: f32[5,4,8], kept.4: f32[5,4,8], i.4: s32[]) -> f32[5,4,8] {
  %stack.4 = f32[5,4,8]{2,1,0:T(8,128)} parameter(0)
  %kept.4 = f32[5,4,8]{2,1,0:T(8,128)} parameter(1)
  %i.4 = s32[]{:T(128)} parameter(2)
  %layer.4 = f32[1,4,8]{2,1,0:T(8,128)} dynamic-slice(%stack.4, %i.4, %i.4, %i.4), dynamic_slice_sizes={1,4,8}
  %double.4 = f32[1,4,8]{2,1,0:T(8,128)} add(%layer.4, %layer.4)
  ROOT %update.4 = f32[5,4,8]{2,1,0:T(8,128)} dynamic-update-slice(%kept.4, %double.4, %i.4, %i.4, %i.4)
}

%body (state.5: (s32[], f32[5,4,8], f32[5,4,8], bf16[64,8])) -> (s32[], f32[5,4,8], f32[5,4,8], bf16[64,8]) {
  %state.5 = (s32[]{:T(128)}, f32[5,4,8]{2,1,0:T(8,128)}, f32[5,4,8]{2,1,0:T(8,128)}, bf16[64,8]{1,0:S(1)}) parameter(0)
  %i.5 = s32[]{:T(128)} get-tuple-element(%state.5), index=0
  %one.5 = s32[]{:T(128)} constant(1)
  %next.5 = s32[]{:T(128)S(6)} add(%i.5, %one.5)
  %stack.5 = f32[5,4,8]{2,1,0:T(8,128)} get-tuple-element(%state.5), index=1
  %kept.5 = f32[5,4,8]{2,1,0:T(8,128)} get-tuple-element(%state.5), index=2
  %part.5 = bf16[64,8]{1,0:S(1)} get-tuple-element(%state.5), index=3
  %fusion.5 = f32[5,4,8]{2,1,0:T(8,128)} fusion(%stack.5, %kept.5, %i.5), kind=kLoop, calls=%slice_and_update
  %fusion.6 = (bf16[64,8]{1,0:S(1)}, bf16[256,8]{1,0:S(1)}, u32[]{:S(2)}) fusion(%part.5), kind=kCustom, calls=%start
  %fusion.7 = bf16[256,8]{1,0:S(1)} fusion(%part.5), kind=kCustom, calls=%done
  ROOT %tuple.5 = (s32[]{:T(128)}, f32[5,4,8]{2,1,0:T(8,128)}, f32[5,4,8]{2,1,0:T(8,128)}, bf16[64,8]{1,0:S(1)}) tuple(%next.5, %stack.5, %fusion.5, %part.5)
}

%condition (state.6: (s32[], f32[5,4,8], f32[5,4,8], bf16[64,8])) -> pred[] {
  %state.6 = (s32[]{:T(128)}, f32[5,4,8]{2,1,0:T(8,128)}, f32[5,4,8]{2,1,0:T(8,128)}, bf16[64,8]{1,0:S(1)}) parameter(0)
  %length.6 = s32[]{:T(128)} constant(5)
  %i.6 = s32[]{:T(128)} get-tuple-element(%state.6), index=0
  ROOT %less.6 = pred[]{:T(512)} compare(%i.6, %length.6), direction=LT
}

ENTRY %main (state.7: (s32[], f32[5,4,8], f32[5,4,8], bf16[64,8]), grads.7: f32[16,8]) -> f32[4,8] {
  %state.7 = (s32[]{:T(128)}, f32[5,4,8]{2,1,0:T(8,128)}, f32[5,4,8]{2,1,0:T(8,128)}, bf16[64,8]{1,0:S(1)}) parameter(0)
  %grads.7 = f32[16,8]{1,0:T(8,128)} parameter(1)
  %while.7 = (s32[]{:T(128)}, f32[5,4,8]{2,1,0:T(8,128)}, f32[5,4,8]{2,1,0:T(8,128)}, bf16[64,8]{1,0:S(1)}) while(%state.7), condition=%condition, body=%body
  %copy-start.7 = (f32[16,8]{1,0:T(8,128)S(1)}, f32[16,8]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%grads.7)
  %copy-done.7 = f32[16,8]{1,0:T(8,128)S(1)} copy-done(%copy-start.7)
  ROOT %fusion.8 = f32[4,8]{1,0:T(8,128)} fusion(%copy-done.7), kind=kCustom, calls=%all-reduce-scatter.3
}
"""


def test_collective_bytes_of_a_tpu_program():
    program = Program(TPU)
    assert program.executions == {'main': 1, 'body': 5}
    assert program.unknown_loops == []
    assert program.collective_bytes() == {
        'all-gather': 5 * 3 * 64 * 8 * 2,  # once, although both parts have the instruction
        'reduce-scatter': 16 * 8 * 4 * 3 // 4,
    }


def test_memory_bytes_of_a_tpu_program():
    layer = 4 * 8 * 4
    index = 4
    # One slice is read and one is written, not the whole stacks; and the counter is incremented.
    loop = 5 * (layer + layer + index + 2 * index)
    copy = 16 * 8 * 4  # into the faster memory, whose traffic is not counted
    assert Program(TPU).memory_bytes() == loop + copy + layer


@pytest.mark.parametrize(
    ('known', 'unknown'),
    [
        ('direction=LT', 'direction=NE'),
        ('%length.6 = s32[]{:T(128)} constant(5)', '%length.6 = f32[1]{0:T(128)} constant({0.5})'),
        ('%one.5 = s32[]{:T(128)} constant(1)', '%one.5 = f32[]{:T(128)} constant(0.5)'),
        ('%one.5 = s32[]{:T(128)} constant(1)', '%one.5 = s32[]{:T(128)} constant(-1)'),
    ],
)
def test_executions_counts_a_loop_of_unknown_length_once_and_names_it(known, unknown):
    program = Program(TPU.replace(known, unknown))
    assert program.executions == {'main': 1, 'body': 1}
    assert program.unknown_loops == ['while.7']


def test_trip_count_of_a_counter_with_steps():
    assert Program(TPU.replace('constant(1)', 'constant(2)')).executions['body'] == 3


def test_trip_count_annotated_by_the_compiler():
    known = 'body=%body, backend_config={"known_trip_count":{"n":"11"}}'
    assert Program(TPU.replace('body=%body', known)).executions['body'] == 11


GPU = """
HloModule step, is_scheduled=true, num_partitions=2

ENTRY %main (x.1: bf16[8,4], y.1: bf16[4,16]) -> bf16[8,16] {
  %x.1 = bf16[8,4]{1,0} parameter(0)
  %y.1 = bf16[4,16]{1,0} parameter(1)
  %product.1 = (bf16[8,16]{1,0}, s8[4194304]{0}) custom-call(%x.1, %y.1), custom_call_target="__cublas$lt$matmul"
  ROOT %result.1 = bf16[8,16]{1,0} get-tuple-element(%product.1), index=0
}
"""


def test_memory_bytes_of_a_matrix_product_on_a_gpu():
    assert Program(GPU).memory_bytes() == 2 * (8 * 4 + 4 * 16 + 8 * 16)


SPARSECORE = """
HloModule step, num_partitions=8

%add.1 (a.1: f32[], b.1: f32[]) -> f32[] {
  %a.1 = f32[] parameter(0)
  %b.1 = f32[] parameter(1)
  ROOT %sum.1 = f32[] add(%a.1, %b.1)
}

%called_computation (param_0.1: f32[192,1000], param_1.1: token[]) -> f32[192,1000] {
  %param_1.1 = token[] parameter(1)
  %param_0.1 = f32[192,1000]{1,0:T(8,128)} parameter(0)
  ROOT %all-reduce.1 = f32[192,1000]{1,0:T(8,128)} all-reduce(%param_0.1), channel_id=21, replica_groups={{0,1,2,3,4,5,6,7}}, to_apply=%add.1
}, execution_thread="sparsecore"

ENTRY %main (grads.1: f32[192,1000], token.1: token[]) -> f32[192,1000] {
  %grads.1 = f32[192,1000]{1,0:T(8,128)} parameter(0)
  %token.1 = token[] parameter(1)
  %all-reduce.2.call-start = ((f32[192,1000]{1,0:T(8,128)}, token[]), f32[192,1000]{1,0:T(8,128)}) call-start(%grads.1, %token.1), async_execution_thread="sparsecore", to_apply=%called_computation
  ROOT %all-reduce.2.call-done = f32[192,1000]{1,0:T(8,128)} call-done(%all-reduce.2.call-start)
}
"""


def test_collective_bytes_counts_sparsecore_collectives_once():
    program = Program(SPARSECORE)
    size = 192 * 1000 * 4
    assert program.collective_bytes() == {'all-reduce': 2 * size * 7 // 8}
    assert program.memory_bytes() == 2 * size


MEGASCALE = """
HloModule step, is_scheduled=true, num_partitions=8

ENTRY %main (grads.1: f32[64,128]) -> f32[64,128] {
  %grads.1 = f32[64,128]{1,0:T(8,128)} parameter(0)
  %token.1 = token[] after-all()
  %send.1 = (f32[64,128]{1,0:T(8,128)}, u32[], token[]) send(%grads.1, %token.1), channel_id=2, is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime",_xla_megascale_target="{1,2,3,4}x{0:7}",_xla_megascale_transfer_type="ALL_REDUCE"}
  %recv.1 = (f32[64,128]{1,0:T(8,128)}, u32[], token[]) recv(%token.1), channel_id=1, is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime",_xla_megascale_target="{1,2,3,4}x{0:7}",_xla_megascale_transfer_type="ALL_REDUCE"}
  %recv-done.1 = (f32[64,128]{1,0:T(8,128)}, token[]) recv-done(%recv.1), channel_id=1, is_host_transfer=true
  ROOT %sum.1 = f32[64,128]{1,0:T(8,128)} get-tuple-element(%recv-done.1), index=0
}
"""


@pytest.mark.parametrize(
    ('kind', 'share'),
    [
        ('ALL_REDUCE', 2 * 3 / 4),
        ('REDUCE_SCATTER', 3 / 4),
        ('ALL_GATHER', 3),
        ('ALL_TO_ALL', 3 / 4),
        ('ONE_TO_ONE', 1),
    ],
)
def test_network_bytes_between_slices_of_tpus(kind, share):
    program = Program(MEGASCALE.replace('ALL_REDUCE', kind))
    assert program.collective_bytes() == {}
    assert program.network_bytes(8) == share * 64 * 128 * 4
