/* SPDX-License-Identifier: Apache-2.0 */
/* What the halves of the flow (tcp_flow.c, tcp_flow_send.c, tcp_flow_recv.c) share. */
#ifndef MDL_TRANSPORTS_TCP_FLOW_IMPL_H_
#define MDL_TRANSPORTS_TCP_FLOW_IMPL_H_

#include "transports/tcp_flow.h"

#define MDL_TCP_OF_LINK(it) mdl_container_of(it, struct mdl_tcp_request, link)
#define MDL_TCP_OF_TODO(it) mdl_container_of(it, struct mdl_tcp_request, todo)

/* The channel, made at its first use; NULL (reported): no memory. */
struct mdl_tcp_channel *mdl_tcp_flow_channel(struct mdl_tcp_flow *f, unsigned number);
/* The request with this number in a list of a channel, or NULL. */
struct mdl_tcp_request *mdl_tcp_request_find(const struct mdl_list *list, uint64_t number);
void mdl_tcp_request_start(struct mdl_tcp_flow *f, const struct mdl_message *m, struct mdl_tcp_request *req);
void mdl_tcp_request_end(struct mdl_tcp_flow *f, struct mdl_tcp_request *req, medleyResult_t result);

/* Fails a request whose peer wanted something else, and reports it. */
void mdl_tcp_request_mismatch(struct mdl_tcp_flow *f, struct mdl_tcp_request *req, uint64_t tag, uint64_t len);
void mdl_tcp_flow_refuse(struct mdl_tcp_flow *f, uint8_t type, const struct mdl_tcp_request *req);

/* Gives the CREDITs that a channel owes, as far as it may. */
void mdl_tcp_flow_grant(struct mdl_tcp_flow *f, struct mdl_tcp_channel *ch);

/* The sender's part in a frame that came. */
medleyResult_t mdl_tcp_flow_on_credit(struct mdl_tcp_flow *f, const struct mdl_tcp_header *h) MDL_MUST_USE;
medleyResult_t mdl_tcp_flow_on_refuse_send(struct mdl_tcp_flow *f, const struct mdl_tcp_header *h) MDL_MUST_USE;
/* Acknowledged: all below `cum` and, if bitmap is not NULL, the frames whose bits are set. */
void mdl_tcp_flow_acked(struct mdl_tcp_flow *f, uint64_t cum, const uint8_t *bitmap, uint64_t now);

#endif
