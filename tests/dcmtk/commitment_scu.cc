// A storage commitment requester on DCMTK (PS3.4 Annex J, push model), as a modality is one: it asks on one association,
// releases it, and takes the answer on another, which the node opens. DCMTK itself ships no such program.
//
//   commitment_scu OWN_AE OWN_PORT PEER_AE PEER_HOST PEER_PORT SECONDS TRANSACTION_UID [CLASS_UID=INSTANCE_UID ...]
//
// It listens on OWN_PORT before it asks, waits SECONDS for the answer, and prints one line for each thing it was told:
//
//   action 0x0000                            Status of the N-ACTION response
//   event 2 2.25.9                           Event Type ID and Transaction UID of the N-EVENT-REPORT
//   committed CLASS_UID INSTANCE_UID         an item of Referenced SOP Sequence (0008,1199)
//   failed CLASS_UID INSTANCE_UID 0x0112     an item of Failed SOP Sequence (0008,1198), with its Failure Reason
//
// Exit status: 0 all is committed to, 1 something is not, 2 the request was refused, 3 nothing was heard, 4 wrong usage.

#include "dcmtk/config/osconfig.h"
#include "dcmtk/dcmdata/dctk.h"
#include "dcmtk/dcmnet/scp.h"
#include "dcmtk/dcmnet/scu.h"

#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

enum ExitStatus { COMMITTED, NOT_COMMITTED, REFUSED, NOTHING_HEARD, WRONG_USAGE };

const char* const PUSH_MODEL = UID_StorageCommitmentPushModelSOPClass;
const char* const WELL_KNOWN_INSTANCE = UID_StorageCommitmentPushModelSOPInstance;
const Uint16 REQUEST_STORAGE_COMMITMENT = 1;
const Uint32 NETWORK_TIMEOUT_S = 10;

OFList<OFString> transferSyntaxes() {
    OFList<OFString> syntaxes;
    syntaxes.push_back(UID_LittleEndianExplicitTransferSyntax);
    syntaxes.push_back(UID_LittleEndianImplicitTransferSyntax);
    return syntaxes;
}

// Takes one N-EVENT-REPORT. The peer, which is the SCP here too, has to propose its role (PS3.7 D.3.3.4).
class ReportListener : public DcmSCP {
public:
    ReportListener(const OFString& aeTitle, Uint16 port, Uint32 seconds) {
        setAETitle(aeTitle);
        setPort(port);
        setConnectionBlockingMode(DUL_NOBLOCK);
        setConnectionTimeout(seconds);
        setDIMSEBlockingMode(DIMSE_NONBLOCKING);
        setDIMSETimeout(NETWORK_TIMEOUT_S);
        addPresentationContext(PUSH_MODEL, transferSyntaxes(), ASC_SC_ROLE_SCP);
    }

    ExitStatus outcome = NOTHING_HEARD;

protected:
    OFCondition handleIncomingCommand(T_DIMSE_Message* message, const DcmPresentationContextInfo& context) override {
        if (message->CommandField != DIMSE_N_EVENT_REPORT_RQ)
            return DcmSCP::handleIncomingCommand(message, context);
        DcmDataset* information = NULL;
        Uint16 eventType = 0;
        OFCondition result = handleEVENTREPORTRequest(
            message->msg.NEventReportRQ, context.presentationContextID, information, eventType);
        if (result.good() && information != NULL)
            report(eventType, *information);
        delete information;
        return result;
    }

    OFBool checkCalledAETitleAccepted(const OFString& called) override { return called == getAETitle(); }
    OFBool stopAfterCurrentAssociation() override { return outcome != NOTHING_HEARD; }
    OFBool stopAfterConnectionTimeout() override { return OFTrue; }

private:
    void report(Uint16 eventType, DcmDataset& information) {
        OFString transactionUID;
        information.findAndGetOFString(DCM_TransactionUID, transactionUID);
        std::printf("event %u %s\n", static_cast<unsigned>(eventType), transactionUID.c_str());
        printItems("committed", information, DCM_ReferencedSOPSequence);
        printItems("failed", information, DCM_FailedSOPSequence);
        outcome = eventType == 1 ? COMMITTED : NOT_COMMITTED;
    }

    static void printItems(const char* word, DcmDataset& information, const DcmTagKey& sequence) {
        DcmItem* item = NULL;
        for (long number = 0; information.findAndGetSequenceItem(sequence, item, number).good(); ++number) {
            OFString classUID, instanceUID;
            Uint16 reason = 0;
            item->findAndGetOFString(DCM_ReferencedSOPClassUID, classUID);
            item->findAndGetOFString(DCM_ReferencedSOPInstanceUID, instanceUID);
            std::printf("%s %s %s", word, classUID.c_str(), instanceUID.c_str());
            if (item->findAndGetUint16(DCM_FailureReason, reason).good())
                std::printf(" 0x%04X", static_cast<unsigned>(reason));
            std::printf("\n");
        }
    }
};

// Action Information, PS3.4 Table J.3-1. False: an argument is not CLASS_UID=INSTANCE_UID.
bool compose(DcmDataset& information, const char* transactionUID, char** references, int count) {
    information.putAndInsertString(DCM_TransactionUID, transactionUID);
    for (int number = 0; number < count; ++number) {
        const std::string reference(references[number]);
        const std::string::size_type equals = reference.find('=');
        DcmItem* item = NULL;
        if (equals == std::string::npos ||
            information.findOrCreateSequenceItem(DCM_ReferencedSOPSequence, item, -2).bad())
            return false;
        item->putAndInsertString(DCM_ReferencedSOPClassUID, reference.substr(0, equals).c_str());
        item->putAndInsertString(DCM_ReferencedSOPInstanceUID, reference.substr(equals + 1).c_str());
    }
    return true;
}

// Asks on an association of its own. False: no answer came.
bool ask(DcmSCU& scu, DcmDataset& information, Uint16& status) {
    scu.addPresentationContext(PUSH_MODEL, transferSyntaxes());
    scu.setACSETimeout(NETWORK_TIMEOUT_S);
    scu.setDIMSEBlockingMode(DIMSE_NONBLOCKING);
    scu.setDIMSETimeout(NETWORK_TIMEOUT_S);
    OFCondition result = scu.initNetwork();
    if (result.good())
        result = scu.negotiateAssociation();
    if (result.good())
        result = scu.sendACTIONRequest(scu.findAnyPresentationContextID(PUSH_MODEL, ""),
                                       WELL_KNOWN_INSTANCE, REQUEST_STORAGE_COMMITMENT, &information, status);
    if (result.bad())
        std::fprintf(stderr, "%s\n", result.text());
    scu.releaseAssociation();
    return result.good();
}

}  // namespace

int main(int argc, char** argv) {
    DcmDataset information;
    if (argc < 8 || !compose(information, argv[7], argv + 8, argc - 8)) {
        std::fprintf(stderr, "usage: see the head of commitment_scu.cc\n");
        return WRONG_USAGE;
    }
    OFLog::configure(OFLogger::WARN_LOG_LEVEL);
    ReportListener listener(argv[1], static_cast<Uint16>(std::atoi(argv[2])), std::atoi(argv[6]));
    if (listener.openListenPort().bad())
        return NOTHING_HEARD;

    DcmSCU scu;
    scu.setAETitle(argv[1]);
    scu.setPeerAETitle(argv[3]);
    scu.setPeerHostName(argv[4]);
    scu.setPeerPort(static_cast<Uint16>(std::atoi(argv[5])));
    Uint16 status = 0;
    if (!ask(scu, information, status))
        return NOTHING_HEARD;
    std::printf("action 0x%04X\n", static_cast<unsigned>(status));
    if (status != STATUS_Success)
        return REFUSED;
    listener.acceptAssociations();
    return listener.outcome;
}
