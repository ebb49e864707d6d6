from aiokafka.partitioner import DefaultPartitioner

from services.chassis.messaging.produce import partition_for

KEYS = [b"", b"a", b"shop", "Größe".encode(), b"x" * 1000, *(b"key-%d" % n for n in range(200))]


def test_a_key_has_the_partition_that_other_clients_give_it_however_often_it_is_asked_for() -> None:
    for partitions in ((0,), (0, 1, 2), tuple(range(12))):
        expected = [DefaultPartitioner()(key, list(partitions), list(partitions)) for key in KEYS]
        for _ in range(2):
            assert [partition_for(key, partitions) for key in KEYS] == expected


def test_without_a_key_every_partition_is_taken() -> None:
    assert {partition_for(None, (0, 1, 2)) for _ in range(200)} == {0, 1, 2}
