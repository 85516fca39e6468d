"""How much a peer may take: connections, time, memory. Every number that a hostile peer would like to be larger."""

from dataclasses import dataclass

MEBIBYTE = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds.

    maximum_associations_of_strangers: of callers that the configuration does not know, where it lets them in, together.
    maximum_unassociated: connections that have not associated yet, or whose association is over.
    maximum_pdu_size: what is announced in A-ASSOCIATE-AC (PS3.8 Annex D.1), and the longest P-DATA-TF taken.
    maximum_request_size: an A-ASSOCIATE-RQ, which comes before anything is known of the peer.
    maximum_command_size: the command set of one message.
    maximum_message_size: the data set of a message other than C-STORE, which is kept in memory. A commitment request of
        10,000 instances needs 1.5 MB.
    maximum_memory_for_messages: all of these at the same time.
    maximum_inflated_size: what a deflated data set may become.
    artim_s: the ARTIM timer (PS3.8 9.1.5); how long a peer may be silent in the middle of a PDU, or not read an answer.
    association_timeout_s: how long an association may be silent between messages.
    """

    maximum_associations: int = 25
    maximum_associations_per_caller: int = 10
    maximum_associations_per_address: int = 20
    maximum_associations_of_strangers: int = 6
    maximum_unassociated: int = 64
    maximum_pdu_size: int = 131_072
    maximum_request_size: int = MEBIBYTE // 4
    maximum_command_size: int = 65_536
    maximum_message_size: int = 4 * MEBIBYTE
    maximum_memory_for_messages: int = 64 * MEBIBYTE
    maximum_instance_size: int = 4096 * MEBIBYTE
    maximum_inflated_size: int = 512 * MEBIBYTE
    artim_s: float = 10.0
    association_timeout_s: float = 60.0
