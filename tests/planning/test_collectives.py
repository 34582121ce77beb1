import pytest

from vitjax.planning.collectives import groups, share, share_beyond


@pytest.mark.parametrize(
    ('attributes', 'devices', 'expected'),
    [
        ('replica_groups={{0,1,2,3}}, use_global_device_ids=true', 4, [[0, 1, 2, 3]]),
        ('replica_groups={{0},{1}}', 2, [[0], [1]]),
        ('replica_groups=[2,3]<=[6], dimensions={0}', 6, [[0, 1, 2], [3, 4, 5]]),
        ('replica_groups=[2,2]<=[2,2]T(1,0)', 4, [[0, 2], [1, 3]]),
        ("replica_groups=mesh['a'=2,'b'=2] {'a'}, x={'b'}", 4, [[0, 2], [1, 3]]),
        ("replica_groups=mesh['a.1'=2,'b'=2] {'a.1','b'}", 4, [[0, 1, 2, 3]]),
        ("replica_groups=mesh['a'=4] {'a':(2)2}", 4, [[0, 1], [2, 3]]),
        ("replica_groups=mesh['a'=8] {'a':(1)2,'a':(4)2}", 8, [[0, 1, 4, 5], [2, 3, 6, 7]]),
        ("replica_groups=mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'a'}", 4, [[0, 1], [2, 3]]),
        ("replica_groups=mesh['a'=2,'b'=2], device_ids=(3,1,2,0) {'b'}", 4, [[3, 1], [2, 0]]),
        ('replica_groups={}', 3, [[0, 1, 2]]),
    ],
)
def test_groups_of_all_notations(attributes, devices, expected):
    assert groups(attributes, devices).tolist() == expected


@pytest.mark.parametrize(
    ('kind', 'sent'),
    [
        ('all-gather', 3),
        ('reduce-scatter', 3 / 4),
        ('all-to-all', 3 / 4),
        ('all-reduce', 2 * 3 / 4),
        ('collective-permute', 1),
    ],
)
def test_share_in_a_group_of_four_devices(kind, sent):
    assert share(kind, 4) == sent


@pytest.mark.parametrize(
    ('kind', 'attributes', 'expected'),
    [
        # Two islands of two devices: a ring of all four has one link out of each island.
        ('all-gather', 'replica_groups={{0,1,2,3}}', 1 / 2),
        ('all-gather', 'replica_groups={{0,2,1,3}}', 1 / 2),
        ('all-gather', 'replica_groups={{0,1},{2,3}}', 0),
        ('all-gather', 'replica_groups={{0,2},{1,3}}', 1),
        # The same amount to each of three others, two of which are on the other island.
        ('all-to-all', 'replica_groups={{0,1,2,3}}', 2 / 3),
        ('collective-permute', 'source_target_pairs={{0,1},{1,2},{2,3},{3,0}}', 1 / 2),
    ],
)
def test_share_beyond_an_island(kind, attributes, expected):
    assert share_beyond(kind, attributes, devices=4, island=2) == pytest.approx(expected)
