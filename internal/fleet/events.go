package fleet

// RegisteredTopic begins the topic of the event that a certificate waits for its activation, with the id of its CA behind (iot-core spec 7.3).
const RegisteredTopic = "$aws/events/certificates/registered/"
